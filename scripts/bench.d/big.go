//go:build unix

package main

import (
	"fmt"
	"time"
)

// herdPatience is when a client of a herd gives up.
const herdPatience = 6 * time.Second

// herds come while our tunnel is down; the bare ssh is up already.
func (b *bench) herds() error {
	for _, n := range []int{1000, 2000} {
		if err := b.herd(n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) herd(n int) error {
	patience, runs := herdPatience, 6
	if b.quick {
		patience, runs = 2*time.Second, 2
	}
	var all []contender
	lost := map[string]*series{}
	for _, p := range b.programs {
		addr, daemon, err := b.startMinimail(p, b.far.mail, "smtp", "0")
		if err != nil {
			return err
		}
		defer daemon.end()
		launches, gone := 0, new(series)
		lost[p.name] = gone
		all = append(all, timed(p.name, func() (time.Duration, error) {
			d, without := herd(addr, n, patience)
			*gone = append(*gone, float64(len(without)))
			launches++
			if len(without) > 0 {
				b.tell("         %s has lost %d clients; the first: %v; its log:\n%s", p.name, len(without), without[0], daemon.oddities())
			}
			return d, daemon.says("the tunnel is closed", launches)
		}))
	}
	theirs := new(series)
	lost[bare] = theirs
	all = append(all, timed(bare, func() (time.Duration, error) {
		addr, ssh, err := b.readySSH(b.far.mail)
		if err != nil {
			return 0, err
		}
		defer ssh.end()
		d, without := herd(addr, n, patience)
		*theirs = append(*theirs, float64(len(without)))
		return d, nil
	}))
	// Where clients are lost the time is that of the last one that was not.
	r := &row{what: fmt.Sprintf("herd of %d", n), isAbsolute: true, target: 1.66}
	r.closing = func() {
		ours := *lost[us]
		r.note = fmt.Sprintf("lost: %s %.0f, %s %.0f of %d (median), %.0f and %.0f at most", us, ours.median(), bare, theirs.median(), n, ours.quantile(1), theirs.quantile(1))
		if ours.quantile(1) > 0 {
			r.failed = "clients were lost"
		}
	}
	return b.abab(r, runs, all...)
}

// bulkThroughSSH is one connection's throughput, both ways.
func (b *bench) bulkThroughSSH() error {
	addrs, end, err := b.warmTunnels(b.far.bulk, "tcp")
	if err != nil {
		return err
	}
	defer end()
	for _, way := range ways {
		var all []contender
		for _, a := range addrs {
			all = append(all, contender{a.name, func() (float64, error) { return bulk(a.addr, way.letter, 64<<20) }})
		}
		if err := b.abab(&row{what: "bulk " + way.name + ", through ssh", in: speed, atLeast: true, target: 0.90}, b.runs(20), all...); err != nil {
			return err
		}
	}
	return nil
}

var ways = []struct {
	name   string
	letter byte
}{{"up", 'u'}, {"down", 'd'}}
