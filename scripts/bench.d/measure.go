//go:build unix

package main

import (
	"fmt"
	"os"
	"regexp"
	"time"
)

// A bench is a run of all rows.
type bench struct {
	*world
	far   far
	quick bool
	only  *regexp.Regexp // the rows that are measured
	rows  []*row
	tell  func(format string, args ...any)
	began time.Time
}

// runs is how often each side is measured.
func (b *bench) runs(full int) int {
	if b.quick {
		return min(3, full)
	}
	return full
}

// lateAfter is when only as much is done as has to be.
const lateAfter = 7 * time.Minute

// A contender is a side that is ready to be measured.
type contender struct {
	name string
	run  func() (float64, error)
}

// abab measures the contenders in turn, n times; the first one is ours. A
// first round does not count: caches and pools are warm after it.
func (b *bench) abab(r *row, n int, all ...contender) error {
	if !b.only.MatchString(r.what) {
		return nil
	}
	if time.Since(b.began) > lateAfter {
		n = min(n, 10)
	}
	got := make([]series, len(all))
	for round := range n + 1 {
		for i, c := range all {
			v, err := c.run()
			if err != nil {
				return fmt.Errorf("%s: %s: %w", r.what, c.name, err)
			}
			if round > 0 {
				got[i] = append(got[i], v)
			}
		}
	}
	r.ours = side{all[0].name, got[0]}
	for i := 1; i < len(all); i++ {
		r.theirs = append(r.theirs, side{all[i].name, got[i]})
	}
	b.rows = append(b.rows, r)
	b.tell("%5.0f s  %s: %s, %s (target %s): %s", time.Since(b.began).Seconds(), r.what,
		r.in.format(r.ours.got.median()), against(r), r.bound(), r.verdict())
	return nil
}

func against(r *row) string {
	if best := r.best(); best != nil {
		return fmt.Sprintf("%s %s, ratio %.2f", best.name, r.in.format(best.got.median()), r.ratio())
	}
	return "absolute"
}

// timed makes a contender of something that takes a time.
func timed(name string, f func() (time.Duration, error)) contender {
	return contender{name, func() (float64, error) { d, err := f(); return d.Seconds(), err }}
}

const us, bare = "minimail", "ssh -L"

// all measures all rows.
func (b *bench) all() error {
	b.began = time.Now()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path("no-ssh"), fmt.Appendf(nil, noSSH, self, b.path("farend.sock")), 0o755); err != nil {
		return err
	}
	if b.far, err = b.startFarEnd(); err != nil {
		return err
	}
	if err := b.startSSHD(); err != nil {
		return err
	}
	idle, err := b.startIdle()
	if err != nil {
		return err
	}
	for _, measure := range []func() error{b.loopback, b.links, b.herds, b.bulkThroughSSH, b.alone, b.memory, idle, b.startStop, b.binary} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// loopback is all that is small, on this machine.
func (b *bench) loopback() error {
	s := stage{b.world, b.far, ""}
	if err := b.cold(s, 20, 0.78); err != nil {
		return err
	}
	return b.warm(s, 40, 0.05, 0.07)
}

// teardown is for sshd to be done with the session before.
const teardown = 150 * time.Millisecond

// A stage is where a row is measured.
type stage struct {
	*world
	far  far
	name string // what the names of its rows begin with
}

// timed makes a contender of something that takes a time, on the near side.
func (s stage) timed(name string, f func() (time.Duration, error)) contender {
	return timed(name, func() (d time.Duration, err error) {
		err = s.here.call(func() (err error) { d, err = f(); return err })
		return d, err
	})
}

// cold is the first greeting when there is no ssh yet.
func (b *bench) cold(s stage, n int, target float64) error {
	addr, daemon, err := s.startMinimail(s.far.mail, "smtp", "0")
	if err != nil {
		return err
	}
	defer daemon.end()
	launches := 0
	return b.abab(&row{what: s.name + "cold: connect to greeting, tunnel down", target: target, why: whyCold}, b.runs(n),
		s.timed(us, func() (time.Duration, error) {
			time.Sleep(teardown)
			d, err := greet(addr)
			if launches++; err == nil {
				err = daemon.says("the tunnel is closed", launches)
			}
			return d, err
		}),
		s.timed(bare, func() (time.Duration, error) {
			time.Sleep(teardown)
			began := time.Now()
			addr, ssh, err := s.bareSSH(s.far.mail)
			if err != nil {
				return 0, err
			}
			defer ssh.end()
			for {
				if c, err := visit(addr, patience); err == nil {
					took := time.Since(began)
					return took, c.Close()
				}
				if time.Since(began) > patience {
					return 0, fmt.Errorf("ssh does not get through")
				}
				time.Sleep(2 * time.Millisecond)
			}
		}))
}

// warm is everything small through a tunnel that is up.
func (b *bench) warm(s stage, n int, greeting, one float64) error {
	ours, daemon, err := s.startMinimail(s.far.mail, "smtp", "1h")
	if err != nil {
		return err
	}
	defer daemon.end()
	theirs, ssh, err := s.readySSH(s.far.mail)
	if err != nil {
		return err
	}
	defer ssh.end()
	for _, r := range []struct {
		what, why string
		target    float64
		runs      int
		f         func(string) (time.Duration, error)
	}{
		{"warm: connect to greeting, tunnel up", whyWarm, greeting, n, greet},
		{"a whole mail, connect to QUIT answered and closed, warm", whyMail, one, n, sendMail},
		{"ten mails, one after the other, warm", whyMail, min(one, 0.97), n / 4, sendTen},
	} {
		err := b.abab(&row{what: s.name + r.what, target: r.target, why: r.why}, b.runs(r.runs),
			s.timed(us, func() (time.Duration, error) { return r.f(ours) }),
			s.timed(bare, func() (time.Duration, error) { return r.f(theirs) }))
		if err != nil {
			return err
		}
	}
	return nil
}

// herdPatience is when a client of a herd gives up.
const herdPatience = 6 * time.Second

// herds come while our tunnel is down; the bare ssh is up already.
func (b *bench) herds() error {
	addr, daemon, err := b.startMinimail(b.far.mail, "smtp", "0")
	if err != nil {
		return err
	}
	defer daemon.end()
	cold := b.rows[0].ours.got.median()
	launches := 0
	for _, n := range []int{1000, 2000} {
		if b.quick && n > 1000 {
			continue
		}
		var ours, theirs series
		patience, runs := herdPatience, 10
		if b.quick {
			patience, runs = 2*time.Second, 2
		}
		// Where clients are lost the time is that of the last one that was not.
		r := &row{what: fmt.Sprintf("herd: %d clients at once, cold, the last greeting", n), isAbsolute: true, target: cold + 1.5, why: whyHerd}
		err := b.abab(r, runs,
			timed(us, func() (time.Duration, error) {
				d, lost := herd(addr, n, patience)
				ours = append(ours, float64(len(lost)))
				launches++
				if len(lost) > 0 {
					b.tell("         %s has lost %d clients; the first: %v; its log:\n%s", us, len(lost), lost[0], daemon.oddities())
				}
				return d, daemon.says("the tunnel is closed", launches)
			}),
			timed(bare, func() (time.Duration, error) {
				addr, ssh, err := b.readySSH(b.far.mail)
				if err != nil {
					return 0, err
				}
				defer ssh.end()
				d, lost := herd(addr, n, patience)
				theirs = append(theirs, float64(len(lost)))
				return d, nil
			}))
		if err != nil {
			return err
		}
		r.note = fmt.Sprintf("lost: %s %.0f, %s %.0f of %d (median), %.0f and %.0f at most", us, ours.median(), bare, theirs.median(), n, ours.quantile(1), theirs.quantile(1))
		if ours.quantile(1) > 0 {
			r.failed = "clients were lost"
		}
		b.tell("         %s", r.note)
	}
	return nil
}

// bulkThroughSSH is one connection's throughput, both ways.
func (b *bench) bulkThroughSSH() error {
	ours, daemon, err := b.startMinimail(b.far.bulk, "tcp", "1h")
	if err != nil {
		return err
	}
	defer daemon.end()
	theirs, ssh, err := b.readySSH(b.far.bulk)
	if err != nil {
		return err
	}
	defer ssh.end()
	for _, way := range ways {
		err := b.abab(&row{what: "bulk " + way.name + ", through ssh", in: speed, atLeast: true, target: 0.90, why: whyBulkSSH}, b.runs(20),
			contender{us, func() (float64, error) { return bulk(ours, way.letter, 64<<20) }},
			contender{bare, func() (float64, error) { return bulk(theirs, way.letter, 64<<20) }})
		if err != nil {
			return err
		}
	}
	return nil
}

var ways = []struct {
	name   string
	letter byte
}{{"up", 'u'}, {"down", 'd'}}
