//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"time"
)

// bulkSize is for the forwarder alone, which is faster than ssh.
func (b *bench) bulkSize() int64 {
	if b.quick {
		return 128 << 20
	}
	return 512 << 20
}

// startAll starts us and those of the peers that are installed.
func (b *bench) startAll(to int, protocol string, only func(peer) bool, through func(string) error) (addrs map[string]string, names []string, end func(), err error) {
	addrs = map[string]string{}
	var running []*process
	end = func() {
		for _, p := range running {
			p.end()
		}
	}
	for _, p := range b.programs {
		addr, daemon, err := b.startAlone(p, to, protocol, "1h")
		if err != nil {
			return nil, nil, nil, err
		}
		running, names, addrs[p.name] = append(running, daemon), append(names, p.name), addr
	}
	for _, peer := range peers {
		if !installed(peer) || !only(peer) {
			continue
		}
		addr, p, err := b.startPeer(peer, to, through)
		if err != nil {
			// It is a broken installation, say; the others can be measured.
			b.tell("skipped: %v", err)
			continue
		}
		running, names, addrs[peer.name] = append(running, p), append(names, peer.name), addr
	}
	return addrs, names, end, nil
}

func installed(p peer) bool {
	_, err := exec.LookPath(p.program)
	if err == nil && p.name == "systemd-socket-proxyd" {
		_, err = exec.LookPath("systemd-socket-activate")
	}
	return err == nil
}

func anybody(peer) bool { return true }

// alone is the forwarder without ssh, against those of its kind.
func (b *bench) alone() error {
	addrs, names, end, err := b.startAll(b.far.bulk, "tcp", anybody, func(addr string) error { _, err := bulk(addr, 'u', 1); return err })
	if err != nil {
		return err
	}
	for _, way := range ways {
		var all []contender
		for _, name := range names {
			all = append(all, contender{name, func() (float64, error) { return bulk(addrs[name], way.letter, b.bulkSize()) }})
		}
		if err := b.abab(&row{what: "bulk " + way.name + ", alone", in: speed, atLeast: true, target: 1}, b.runs(20), all...); err != nil {
			end()
			return err
		}
	}
	end()

	through := func(addr string) error { _, err := greet(addr); return err }
	addrs, names, end, err = b.startAll(b.far.mail, "smtp", anybody, through)
	if err != nil {
		return err
	}
	defer end()
	for _, r := range []struct {
		what string
		f    func(string, int) (time.Duration, error)
	}{
		{"greeting, alone", greetMany},
		{"reply, alone", replies},
	} {
		var all []contender
		for _, name := range names {
			all = append(all, timed(name, func() (time.Duration, error) { return r.f(addrs[name], 100) }))
		}
		if err := b.abab(&row{what: r.what, target: 1.1}, b.runs(20), all...); err != nil {
			return err
		}
	}
	return nil
}

// held is how many connections the memory is measured with.
const held = 1000

// memory is what a held connection costs a fresh process.
func (b *bench) memory() error {
	r := &row{what: fmt.Sprintf("%d held connections, memory each", held), in: size, target: 8.5 * (1 << 10), isAbsolute: true}
	cost := func(start func() (string, *process, error), who func(pid int) []int) func() (float64, error) {
		return func() (float64, error) {
			addr, p, err := start()
			if err != nil {
				return 0, err
			}
			defer p.end()
			if _, err := greet(addr); err != nil {
				return 0, err
			}
			before := private(who(p.pid))
			all, err := hold(addr, held)
			if err != nil {
				return 0, err
			}
			after := private(who(p.pid))
			hangUp(all)
			return float64(after-before) / held, nil
		}
	}
	var all []contender
	for _, p := range b.programs {
		all = append(all, contender{p.name, cost(func() (string, *process, error) { return b.startAlone(p, b.far.mail, "smtp", "1h") },
			func(pid int) []int { return []int{pid} })}) // not what is in place of ssh
	}
	for _, peer := range peers {
		if peer.holds && installed(peer) {
			all = append(all, contender{peer.name, cost(func() (string, *process, error) {
				return b.startPeer(peer, b.far.mail, func(addr string) error { _, err := greet(addr); return err })
			}, family)})
		}
	}
	return b.abab(r, b.runs(5), all...)
}
