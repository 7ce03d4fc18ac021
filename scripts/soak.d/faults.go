//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
)

// A run is all mails, and all that happens to them.
type run struct {
	*world
	queues   []queue
	count    int
	slow     bool // mails are small
	deadline time.Time
	began    time.Time
	before   measure
	after    measure
	late     bool
	chance   *rand.Rand

	shown     time.Time // when the last line of progress was
	committed map[string]int

	mu         sync.Mutex
	told       []told
	counted    int       // arrivals
	countAgain time.Time // not before
}

// faults are all kinds; each is committed once in a round, in an order of the
// round's own.
var faults = []string{"ssh killed", "ssh frozen", "session killed", "session frozen", "sshd killed", "sshd frozen",
	"sink killed", "sink frozen", "host killed", "minimail restarted", "minimail killed", "minimail frozen", "minimail stopped"}

// commitFaults goes on until most mails have arrived, or the time for it is up.
func (r *run) commitFaults(given <-chan struct{}) {
	var round []string
	for r.goesOn(given) {
		if len(round) == 0 {
			round = append(round, faults...)
			r.chance.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		time.Sleep(time.Duration(r.chance.IntN(800)) * time.Millisecond)
		r.commit(round[0])
		round = round[1:]
		// Until mails flow again, which takes minimail's back-off and those of
		// its clients.
		flowing := r.arrived() + 5 + r.chance.IntN(10)
		for range 120 {
			if !r.goesOn(given) || r.arrived() >= flowing {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	fmt.Printf("%4.0f s  %5d arrived  no more faults\n", time.Since(r.began).Seconds(), r.arrived())
}

func (r *run) goesOn(given <-chan struct{}) bool {
	select {
	case <-given:
		return false
	default:
	}
	return r.arrived() < r.count*9/10 && time.Since(r.began) < r.deadline.Sub(r.began)*2/3
}

// arrived is how many mails there are, duplicates included.
func (r *run) arrived() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.countAgain) {
		began := time.Now()
		r.counted = entries(r.mails)
		r.countAgain = time.Now().Add(20 * time.Since(began)) // there may be 100,000
	}
	return r.counted
}

// entries is how many files a directory has; those that are not finished begin
// with a dot.
func entries(dir string) (n int) {
	d, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(0)
	for _, name := range names {
		if name[0] != '.' {
			n++
		}
	}
	return n
}

// progress prints each fault of a short run, and of a long one a line a minute.
func (r *run) progress(fault string) {
	since, n := time.Since(r.began), r.arrived()
	if r.count <= 1000 {
		fmt.Printf("%4.0f s  %5d arrived  %s\n", since.Seconds(), n, fault)
	} else if time.Since(r.shown) >= time.Minute {
		r.shown = time.Now()
		all, faults := float64(n)/since.Seconds(), 0
		for _, times := range r.committed {
			faults += times
		}
		fmt.Printf("%4.0f min  %6d of %d arrived, %.1f a second, %d faults\n", since.Minutes(), n, r.count, all, faults)
	}
}

// victims are the processes of a kind.
func (r *run) victims(kind string) []int {
	switch kind {
	case "ssh":
		return r.ssh()
	case "session":
		return r.host.Processes()[1:]
	case "sshd":
		return r.host.Processes()[:1]
	case "sink":
		return []int{r.sink.Process.Pid}
	}
	return []int{r.pid()}
}

func (r *run) commit(fault string) {
	kind, how := split(fault)
	victims := r.victims(kind)
	if len(victims) == 0 {
		return // of ssh there is none just now
	}
	down := time.Duration(200+r.chance.IntN(4000)) * time.Millisecond
	r.committed[fault]++
	r.progress(fault)
	switch {
	case how == "frozen":
		signalAll(victims, syscall.SIGSTOP)
		time.Sleep(down + time.Second)
		signalAll(victims, syscall.SIGCONT)
	case kind == "ssh" || kind == "session":
		signalAll(victims, syscall.SIGKILL)
	case kind == "minimail":
		r.endMinimail(how, victims, down)
	case kind == "host":
		r.host.Stop()
		r.killSink()
		time.Sleep(down)
		r.startSink()
		r.must(r.far(func() error { r.host.Start(r); return nil }))
	case kind == "sshd":
		r.host.Stop()
		time.Sleep(down)
		r.must(r.far(func() error { r.host.Start(r); return nil }))
	case kind == "sink":
		r.killSink()
		time.Sleep(down)
		r.startSink()
	}
}

func (r *run) endMinimail(how string, victims []int, down time.Duration) {
	switch how {
	case "restarted":
		r.minimail("restart")
		return
	case "killed":
		signalAll(victims, syscall.SIGKILL)
	default:
		r.minimail("stop")
	}
	time.Sleep(down / 4)
	r.minimail("start")
}

// drain waits until the tunnel is closed, or the time is up.
func (r *run) drain() {
	for len(r.ssh()) > 0 && time.Now().Before(r.deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	r.late = !time.Now().Before(r.deadline)
	for range 50 { // what has just been closed may take a moment
		if r.after = r.measure(); r.after.sockets <= r.before.sockets {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
