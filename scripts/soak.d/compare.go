//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"minimail/internal/testbed"
	"minimail/internal/testbed/link"
)

// A subject is a build of minimail with a host of its own.
type subject struct {
	*stage
	name, program string
	link          *link.Link // nil: the loopback
	near          func(func() error) error
	host          *testbed.Host
	far           string
	port          int
}

// subjects are this build and another one, each with a link of its own.
func (s *stage) subjects(this, other string, c *link.Conditions) (all []*subject) {
	for _, of := range []struct{ name, program string }{{"before", other}, {"now", this}} {
		b := &subject{stage: s, name: of.name, program: of.program, near: here}
		if c == nil {
			b.host, b.far = testbed.NewHost(s), testbed.MailServer(s, nil)
		} else {
			b.link, b.host, b.far = testbed.NewLongHost(s, *c)
			b.near = b.link.Near.Do
		}
		all = append(all, b)
	}
	return all
}

func (b *subject) must(err error) {
	if err != nil {
		b.Fatal(b.name+":", err)
	}
}

// runs has its minimail run as long as use does.
func (b *subject) runs(idle string, use func()) {
	near := 0
	b.must(b.near(func() error { b.port, near = testbed.FreePort(b), testbed.FreePort(b); return nil }))
	dir := b.TempDir()
	b.must(os.Chmod(dir, 0o755))
	m := exec.Command(b.program, "-X", "--host", "far", "--ssh-config", b.host.Path("ssh_config"), "--settings", os.DevNull, "--user", testbed.RunAs,
		"--forward", fmt.Sprintf("%d:%d:%s", b.port, near, b.far), "--protocol", "smtp", "--idle", idle, "--jitter", "0", "--pid-file", filepath.Join(dir, "pid"))
	said := new(testbed.Words)
	m.Stderr = said
	b.must(b.near(m.Start))
	said.Wait(b, "listening")
	use()
	_ = m.Process.Signal(syscall.SIGTERM)
	_ = m.Wait()
}

// knock is a client: how long it waits, and the code that it is greeted with.
func (b *subject) knock() (waited time.Duration, code string) {
	began := time.Now()
	b.must(b.near(func() error {
		c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)))
		if err != nil {
			return err
		}
		defer c.Close()
		line, err := bufio.NewReader(c).ReadString('\n')
		code, _, _ = strings.Cut(line, " ")
		return err
	}))
	return time.Since(began), code
}

// hole has the link cut for a while. A client comes a second later, and, if that is
// not served, another one at the hole's end.
func (b *subject) hole(d time.Duration, up bool) (text string) {
	b.runs("10m", func() {
		if up {
			b.knock()
			time.Sleep(time.Second)
		}
		good, over := *roads["2ms"], make(chan struct{})
		good.Delay = 15 * time.Millisecond
		b.link.Set(link.Conditions{Hole: true})
		time.AfterFunc(d, func() { b.link.Set(good); close(over) })
		time.Sleep(time.Second)
		waited, code := b.knock()
		text = fmt.Sprintf("%s after %.1f s", code, waited.Seconds())
		if <-over; code != "220" {
			waited, code = b.knock()
			text += fmt.Sprintf(", the next: %s after %.1f s", code, waited.Seconds())
		}
	})
	return text
}

// down waits until there is no tunnel.
func (b *subject) down() {
	for len(testbed.CommandsWith("-F\x00"+b.host.Path("ssh_config")+"\x00-N")) > 0 {
		time.Sleep(20 * time.Millisecond)
	}
}

// compare prints what two builds, side by side, make of holes of the link, and, in
// turns, of cold starts.
func (s *stage) compare(this, other string, times int) {
	c := link.Conditions{Delay: 15 * time.Millisecond}
	sides := s.subjects(this, other, &c)
	for _, up := range []bool{true, false} {
		for _, seconds := range []int{4, 12, 40} {
			for range max(times/3, 1) {
				fmt.Printf("hole of %2d s, tunnel %-4s  %s\n", seconds, map[bool]string{true: "up", false: "down"}[up],
					strings.Join(together(sides, func(b *subject) string {
						return b.name + ": " + b.hole(time.Duration(seconds)*time.Second, up)
					}), ";  "))
			}
		}
	}
	coldStarts("30 ms", sides, times)
	coldStarts("loopback", s.subjects(this, other, nil), times)
}

// together calls f for all at the same time.
func together(all []*subject, f func(*subject) string) []string {
	texts := make([]string, len(all))
	var running sync.WaitGroup
	for i, b := range all {
		running.Go(func() { texts[i] = f(b) })
	}
	running.Wait()
	return texts
}

func coldStarts(road string, sides []*subject, times int) {
	took := map[string][]time.Duration{}
	sides[0].runs("0", func() {
		sides[1].runs("0", func() {
			for range times {
				for _, b := range sides {
					waited, _ := b.knock()
					took[b.name] = append(took[b.name], waited)
					b.down()
				}
			}
		})
	})
	median := map[string]float64{}
	for name, all := range took {
		slices.Sort(all)
		median[name] = all[len(all)/2].Seconds() * 1000
	}
	fmt.Printf("cold greeting, %s: before %.0f ms, now %.0f ms, ratio %.2f (medians of %d, in turns)\n", road, median["before"], median["now"], median["now"]/median["before"], times)
}
