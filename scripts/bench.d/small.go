//go:build unix

package main

import (
	"fmt"
	"time"
)

// A stage is where the rows about small things are measured: greetings, mails.
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

// loopback is all that is small, on this machine.
func (b *bench) loopback() error {
	s := stage{b.world, b.far, ""}
	if err := b.cold(s, 14, 0.78); err != nil {
		return err
	}
	if err := b.warm(s, 40, 0.05, 0.07); err != nil {
		return err
	}
	jumps := *b.world
	jumps.host = "beyond"
	return b.cold(stage{&jumps, b.far, "ProxyJump: "}, 12, 0.90)
}

// teardown is for sshd to be done with the session before.
const teardown = 150 * time.Millisecond

// cold is the first greeting when there is no ssh yet.
func (b *bench) cold(s stage, n int, target float64) error {
	var all []contender
	for _, p := range s.programs {
		addr, daemon, err := s.startMinimail(p, s.far.mail, "smtp", "0")
		if err != nil {
			return err
		}
		defer daemon.end()
		launches := 0
		all = append(all, s.timed(p.name, func() (time.Duration, error) {
			time.Sleep(teardown)
			d, err := greet(addr)
			if launches++; err == nil {
				err = daemon.says("the tunnel is closed", launches)
			}
			return d, err
		}))
	}
	all = append(all, s.timed(bare, s.coldSSH))
	return b.abab(&row{what: s.name + "cold greeting", target: target}, b.runs(n), all...)
}

// coldSSH is the same with a bare ssh that is started at that moment.
func (s stage) coldSSH() (time.Duration, error) {
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
}

// warm is everything small through a tunnel that is up.
func (b *bench) warm(s stage, n int, greeting, mail float64) error {
	addrs, end, err := s.warmTunnels(s.far.mail, "smtp")
	if err != nil {
		return err
	}
	defer end()
	for _, r := range []struct {
		what   string
		target float64
		runs   int
		f      func(string) (time.Duration, error)
	}{
		{"warm greeting", greeting, n, greet},
		{"a mail", mail, n, sendMail},
		{"ten mails", min(mail, 0.97), n / 4, sendTen},
	} {
		var all []contender
		for _, a := range addrs {
			all = append(all, s.timed(a.name, func() (time.Duration, error) { return r.f(a.addr) }))
		}
		if err := b.abab(&row{what: s.name + r.what, target: r.target}, b.runs(r.runs), all...); err != nil {
			return err
		}
	}
	return nil
}

// A way is one to the far end.
type way struct {
	name, addr string
	pid        int // of its process
}

// warmTunnels are minimail's and a bare ssh's, all of them up.
func (w *world) warmTunnels(farPort int, protocol string) (all []way, end func(), err error) {
	var running []*process
	end = func() {
		for _, p := range running {
			p.end()
		}
	}
	for _, p := range w.programs {
		addr, daemon, err := w.startMinimail(p, farPort, protocol, "1h")
		if err != nil {
			end()
			return nil, nil, err
		}
		running, all = append(running, daemon), append(all, way{p.name, addr, daemon.pid})
	}
	addr, ssh, err := w.readySSH(farPort)
	if err != nil {
		end()
		return nil, nil, err
	}
	running = append(running, ssh)
	return append(all, way{bare, addr, ssh.pid}), end, nil
}
