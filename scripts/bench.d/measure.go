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
	far     far
	quick   bool
	only    *regexp.Regexp // the rows that are measured
	section string         // that of the rows which are measured now
	rows    []*row
	tell    func(format string, args ...any)
	began   time.Time
}

// quickRows are those whose answer is the same after some runs as after many.
var quickRows = regexp.MustCompile(`^(30 ms: )?(cold|warm|a mail)|^herd of 1000|held connections|^minimail|^idle|^stripped`)

// runs is how often each side is measured.
func (b *bench) runs(full int) int {
	if b.quick {
		return min(7, full)
	}
	return full
}

// lateAfter is when only as much is done as has to be.
const lateAfter = 18 * time.Minute

// A contender is a side that is ready to be measured.
type contender struct {
	name string
	run  func() (float64, error)
}

// abab measures the contenders in turn, n times; the first one is ours. A
// first round does not count: caches and pools are warm after it. It does
// nothing for a row that is not wanted.
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
	r.ours = got[0]
	for i, c := range all[1:] {
		if c.name == before {
			r.before = got[i+1]
		} else {
			r.theirs = append(r.theirs, side{c.name, got[i+1]})
		}
	}
	if r.closing != nil {
		r.closing()
	}
	b.add(r)
	return nil
}

// add is for a row that has been measured.
func (b *bench) add(r *row) {
	if !b.only.MatchString(r.what) {
		return
	}
	r.section, r.few = b.section, b.quick
	b.rows = append(b.rows, r)
	s := fmt.Sprintf("%5.0f s  %s: %s", time.Since(b.began).Seconds(), r.what, r.in.format(r.ours.median()))
	if len(r.before) > 0 {
		s += ", " + before + " " + r.in.format(r.before.median())
	}
	if best := r.best(); best != nil {
		s += fmt.Sprintf(", %s %s, ratio %s", best.name, r.in.format(best.got.median()), fmt.Sprintf("%.2f", r.ratio()))
	}
	b.tell("%s (target %s): %s", s, r.bound(), r.verdict())
	if r.note != "" {
		b.tell("         %s", r.note)
	}
}

// timed makes a contender of something that takes a time.
func timed(name string, f func() (time.Duration, error)) contender {
	return contender{name, func() (float64, error) { d, err := f(); return d.Seconds(), err }}
}

const us, before, bare = "minimail", "before", "ssh -L"

// all measures all rows.
func (b *bench) all() error {
	b.began = time.Now()
	if err := b.prepare(); err != nil {
		return err
	}
	b.section = "What it costs"
	idle, err := b.startIdle()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		section string
		measure func() error
	}{
		{"On the loopback", b.loopback},
		{"Over a link", b.links},
		{"Many clients, much data", b.herds},
		{"Many clients, much data", b.bulkThroughSSH},
		{"The forwarder alone", b.alone},
		{"What it costs", b.processorTime},
		{"What it costs", b.memory},
		{"What it costs", idle},
		{"What it costs", b.startStop},
		{"What it costs", b.binary},
	} {
		b.section = part.section
		if err := part.measure(); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes this machine a host as well.
func (b *bench) prepare() (err error) {
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
	return b.startSSHD()
}
