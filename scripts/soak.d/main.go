//go:build linux

// Soak sends numbered mails through minimail while what they go through is
// killed, frozen and restarted, and compares what each client was told with what
// has arrived; see scripts/soak, which calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"minimail/internal/testbed/link"
)

// roads are the links to the host that -l knows.
var roads = map[string]*link.Conditions{
	"loopback": nil,
	"2ms":      {Delay: time.Millisecond},
	"30ms":     {Delay: 15 * time.Millisecond, Loss: 0.01},
	"32kbit":   {Delay: 15 * time.Millisecond, Rate: 32_000},
}

func main() {
	count := flag.Int("n", 1000, "how many mails")
	seed := flag.Uint64("s", rand.Uint64()%1_000_000_000, "seed of the chances taken")
	minutes := flag.Int("m", 0, "give up after so many minutes (0: 8, and one for each 100 mails)")
	road := flag.String("l", "loopback", "link to the host: loopback, 2ms, 30ms (loses 1 %), 32kbit")
	keep := flag.Bool("k", false, "keep the logs and mails, and print where")
	other := flag.String("c", "", "compare holes of the link and cold starts with this build of minimail")
	flag.Parse()
	conditions, known := roads[*road]
	if flag.NArg() > 0 || *count < 1 || *minutes < 0 || !known {
		flag.Usage()
		os.Exit(2)
	}
	if *minutes == 0 {
		*minutes = 8 + *count/100
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &stage{keep: *keep}
	context.AfterFunc(ctx, func() { s.end(130) })

	if *other != "" {
		w := &world{stage: s, dir: s.TempDir()}
		w.must(os.Chmod(w.dir, 0o755))
		w.build()
		s.compare(filepath.Join(w.programs, "minimail"), *other, 11)
		s.end(0)
	}
	w := newWorld(s, conditions)
	fmt.Printf("the way: clients -> minimail, port %d -> ssh -> sshd, over %s -> mail server\nthe seed: %d\n\n", w.port, *road, *seed)
	r := &run{world: w, queues: []queue{w.newNullmailer(), w.newPostfix()}, count: *count, slow: *road == "32kbit", deadline: time.Now().Add(time.Duration(*minutes) * time.Minute), began: time.Now(),
		chance: rand.New(rand.NewPCG(*seed, 1)), committed: map[string]int{}}
	r.before = w.measure()
	given := make(chan struct{})
	go func() { defer close(given); r.giveMails(rand.New(rand.NewPCG(*seed, 2))) }() // ends when all are sent, or the time is up
	r.commitFaults(given)
	<-given
	for _, q := range r.queues {
		r.told = append(r.told, q.told()...)
	}
	r.drain()
	bad := r.report(*seed, *road)
	for _, b := range bad {
		fmt.Fprintln(os.Stderr, "soak:", b)
	}
	if len(bad) > 0 {
		s.end(1)
	}
	fmt.Println("\nAll mails have arrived.")
	s.end(0)
}
