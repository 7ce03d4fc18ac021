package main

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"minimail/internal/testbed/link"
)

// A trace is what goes over a link, as the near side sees it.
type trace struct {
	mu   sync.Mutex
	text strings.Builder
	last time.Time
}

// traced returns the packets that pass while f runs: for each the time since the
// one before in ms, > for ours, and the size of what it brings.
func traced(l *link.Link, f func() error) (string, error) {
	t := &trace{last: time.Now()}
	l.Near.Watch(t.see)
	defer l.Near.Watch(nil)
	err := f()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String(), err
}

func (t *trace) see(out bool, packet []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	way := "<"
	if out {
		way = ">"
	}
	fmt.Fprintf(&t.text, "%4d %s %s\n", time.Since(t.last).Round(time.Millisecond).Milliseconds(), way, describe(packet))
	t.last = time.Now()
}

// describe says what a TCP packet is (RFC 791, RFC 9293).
func describe(ip []byte) string {
	tcp := ip[ip[0]&15*4:]
	size := int(binary.BigEndian.Uint16(ip[2:])) - int(ip[0]&15*4) - int(tcp[12]>>4*4)
	switch flags := tcp[13]; {
	case flags&2 != 0:
		return "SYN"
	case flags&4 != 0:
		return "RST"
	case flags&1 != 0:
		return fmt.Sprintf("FIN %d", size)
	case size == 0:
		return "ACK"
	}
	return fmt.Sprint(size)
}

// packets prints those of a cold start, a warm greeting and a mail.
func (b *bench) packets() error {
	s, l, err := b.stageOverLink()
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	l.Set(link.Conditions{Delay: 75 * time.Millisecond})
	addr, daemon, err := s.startMinimail(s.programs[0], s.far.mail, "smtp", "1h")
	if err != nil {
		return err
	}
	defer daemon.end()
	for _, what := range []struct {
		name string
		f    func(string) (time.Duration, error)
	}{{"cold: connect to greeting", greet}, {"warm: connect to greeting", greet}, {"warm: a mail", sendMail}} {
		var took time.Duration
		text, err := traced(l, func() error {
			return s.here.call(func() (err error) { took, err = what.f(addr); return err })
		})
		if err != nil {
			return err
		}
		time.Sleep(time.Second) // what comes after it is not of the next one
		b.tell("%s, %d ms:\n\n%s", what.name, took.Milliseconds(), text)
	}
	return nil
}
