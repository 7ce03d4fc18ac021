// Package link is a link between two machines that can be as long, as slow and
// as lossy as one likes: two network namespaces with a TUN device each, and a
// queue of ours between them. It needs root, and no program.
package link

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A Link joins its two sides until it is closed.
type Link struct {
	// Near is 10.9.8.1 and Far 10.9.8.2, each in a network namespace of its own
	// with a loopback of its own. Files and processes they have in common.
	Near, Far *Side

	ways  sync.WaitGroup
	close sync.Once
}

// Conditions are what befalls the packets of one way. The zero value is a link
// that takes no time and loses nothing.
type Conditions struct {
	Delay time.Duration // of each packet
	Loss  float64       // the share that is lost, from 0 to 1
	Rate  int64         // in bits a second; 0 means no bound
	Queue int           // in bytes, of packets that wait for the rate; what does not fit is lost. 0 means 64 KiB
	Hole  bool          // all that is sent is lost
}

// New makes a link on which both ways are as c says. What is lost depends on
// seed and on the packets' order alone. The caller closes it.
func New(seed uint64, c Conditions) (*Link, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a link of one's own needs root")
	}
	l := new(Link)
	var err error
	if l.Near, err = newSide("10.9.8.1"); err != nil {
		return nil, fmt.Errorf("cannot make the near side of a link: %w", err)
	}
	if l.Far, err = newSide("10.9.8.2"); err != nil {
		l.Near.close()
		return nil, fmt.Errorf("cannot make the far side of a link: %w", err)
	}
	l.Near.sent, l.Far.sent = newQueue(seed), newQueue(seed+1)
	l.Set(c)
	l.ways.Go(func() { l.Near.send() }) // Close waits for these
	l.ways.Go(func() { l.Far.send() })
	l.ways.Go(func() { l.Near.deliver(l.Far) })
	l.ways.Go(func() { l.Far.deliver(l.Near) })
	return l, nil
}

// Set changes the conditions of both ways, for packets that are sent from now on.
func (l *Link) Set(c Conditions) {
	l.Near.Set(c)
	l.Far.Set(c)
}

// Close takes the link away; what is still under way is lost. Programs that run
// on the sides keep these, without a way out.
func (l *Link) Close() {
	l.close.Do(func() {
		l.Near.close()
		l.Far.close()
		l.ways.Wait()
	})
}
