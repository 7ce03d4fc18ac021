package main

import (
	"fmt"
	"os"
	"time"

	"minimail/internal/testbed/link"
)

// A length is a link to a host that is not on this machine.
type length struct {
	name              string
	is                link.Conditions
	runs              int
	cold, greet, mail float64 // the targets
}

var lengths = []length{
	{"2 ms: ", link.Conditions{Delay: time.Millisecond}, 12, 0.84, 1, 0.5},
	{"30 ms: ", link.Conditions{Delay: 15 * time.Millisecond}, 14, 0.84, 1, 0.97},
	{"150 ms: ", link.Conditions{Delay: 75 * time.Millisecond}, 10, 0.90, 1, 0.97},
	{"30 ms, 1 % lost: ", link.Conditions{Delay: 15 * time.Millisecond, Loss: 0.01}, 20, 1, 1, 1},
}

// links is all that is small, over links of several lengths.
func (b *bench) links() error {
	s, l, err := b.stageOverLink()
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	for _, length := range lengths {
		if b.quick && length.name != "30 ms: " {
			continue
		}
		l.Set(length.is)
		s.name = length.name
		if err := b.cold(s, length.runs, length.cold); err != nil {
			return err
		}
		if err := b.warm(s, length.runs, length.greet, length.mail); err != nil {
			return err
		}
	}
	return nil
}

// stageOverLink is a stage and its link, which is nil where there can be none.
func (b *bench) stageOverLink() (s stage, l *link.Link, err error) {
	if l, err = link.New(1, link.Conditions{}); err != nil {
		b.tell("skipped: the rows over links: %v", err)
		return s, nil, nil
	}
	if s.world, err = b.over(l); err == nil {
		s.far, err = s.startFarEnd()
	}
	if err == nil {
		err = s.startSSHD()
	}
	if err != nil {
		l.Close()
	}
	return s, l, err
}

// over is a world on both sides of a link.
func (w *world) over(l *link.Link) (*world, error) {
	long := *w
	long.dir = w.path("link")
	long.here, long.there = at(l.Near), at(l.Far)
	if err := os.Mkdir(long.dir, 0o755); err != nil {
		return nil, err
	}
	if w.as != nil {
		return &long, os.Chown(long.dir, int(w.as.Uid), int(w.as.Gid))
	}
	return &long, nil
}

func at(s *link.Side) place { return place{fmt.Sprint(s.Address), s.Do} }
