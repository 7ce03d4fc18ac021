//go:build unix

package main

import (
	"fmt"
	"os"
	"time"
)

// startIdle starts daemons that are left alone for a minute while other rows
// are measured, and returns what waits for that and makes rows of it. Each has
// served a client, and its tunnel is down again.
func (b *bench) startIdle() (finish func() error, err error) {
	window := time.Minute
	if b.quick {
		window = 15 * time.Second
	}
	var all []*process
	for range b.runs(6) {
		addr, p, err := b.startAlone(b.programs[0], b.far.mail, "smtp", "0")
		if err == nil {
			_, err = greet(addr)
		}
		if err == nil {
			err = p.says("the tunnel is closed", 1)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	var slept, monitor, resident series
	done := make(chan struct{})
	go func() { // ends after settling and the window; finish waits for it
		defer close(done)
		time.Sleep(3 * time.Second) // what the last client has left behind
		own, its := make([]int64, len(all)), make([]int64, len(all))
		for i, p := range all {
			own[i], its[i] = naps(p.pid)
		}
		time.Sleep(window)
		for i, p := range all {
			ownNow, itsNow := naps(p.pid)
			slept = append(slept, float64(ownNow-own[i]))
			monitor = append(monitor, float64(itsNow-its[i]))
			resident = append(resident, float64(rss(p.pid)))
		}
	}()
	return func() error {
		<-done
		for _, p := range all {
			p.end()
		}
		wakes := &row{what: fmt.Sprintf("idle, %.0f s: wake-ups of our own", window.Seconds()), in: count, isAbsolute: true, ours: slept}
		wakes.note = fmt.Sprintf("of %d daemons at most %.0f; Go's monitor thread has gone to sleep %.0f times besides (median): it is the runtime's, and wakes once a minute", len(all), slept.quantile(1), monitor.median())
		memory := &row{what: "idle: resident memory", in: size, isAbsolute: true, target: 10e6, ours: resident}
		b.add(wakes)
		b.add(memory)
		return nil
	}, nil
}

// startStop is the daemon's coming and going, without clients.
func (b *bench) startStop() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	args := b.arguments(b.programs[0], port, port+1, b.far.mail, "smtp")
	var stops series
	word := func(word string) (time.Duration, error) {
		began := time.Now()
		out, err := b.command(append(args, word)...).CombinedOutput()
		took := time.Since(began)
		if err != nil {
			return took, fmt.Errorf("%s: %w: %s", word, err, out)
		}
		return took, nil
	}
	// Whatever happens in between, no daemon stays.
	defer func() { _ = b.command(append(args, "stop")...).Run() }()
	start := &row{what: "minimail start, until it is ready", isAbsolute: true, target: 0.050}
	err = b.abab(start, b.runs(20), timed(us, func() (time.Duration, error) {
		took, err := word("start")
		if err != nil {
			return 0, err
		}
		stopped, err := word("stop")
		stops = append(stops, stopped.Seconds())
		return took, err
	}))
	if err != nil {
		return err
	}
	if len(stops) > 0 {
		b.add(&row{what: "minimail stop, without clients", isAbsolute: true, target: 0.050, ours: stops[1:]})
	}
	return nil
}

// binary is the size of the program, which the script has built static and
// stripped.
func (b *bench) binary() error {
	fi, err := os.Stat(b.programs[0].path)
	if err == nil {
		b.add(&row{what: "stripped static binary", in: size, isAbsolute: true, target: 7.5e6, ours: series{float64(fi.Size())}})
	}
	return err
}
