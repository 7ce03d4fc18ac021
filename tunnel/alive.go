package tunnel

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Signs are what the kernel knows of the connection to the host.
type signs struct {
	heard time.Duration // ago anything has come: data, or an acknowledgement
	data  time.Duration // ago data has come
	owed  bool          // what was sent is not acknowledged
	again int           // times in a row that it was sent again
}

const (
	// deadAlone is for how long nothing may come that is owed while a client
	// waits and nobody else uses the tunnel; deadShared if somebody does, who may
	// get over it; deadUsed if nobody waits.
	deadAlone  = 5 * time.Second
	deadShared = 15 * time.Second
	deadUsed   = 30 * time.Second
	// deadAgain is after how many times in vain the kernel is believed at once:
	// they take more than six seconds.
	deadAgain = 5
	// probeTakes is how long the answer to ssh's question may take.
	probeTakes = 5 * time.Second
)

// Every so often somebody looks, while clients wait, and while they only work.
const (
	lookWaiting = time.Second
	lookWorking = 10 * time.Second
)

// A lostError is why the connection to the host seems to be dead.
type lostError struct{ why string }

func (e lostError) Error() string { return e.why }

func isLost(cause error) bool { return errors.As(cause, new(lostError)) }

// watch tells Run, which waits for its end, when the connection to the host turns
// out to be dead. It returns then, or when the launch ends. A link on which bytes
// move, or are acknowledged, is alive, and so is a login that goes on.
func (t *Tunnel) watch(l *launch) {
	select {
	case <-l.answered:
	case <-l.life.Done():
		return
	}
	var look <-chan time.Time
	owed := time.Now() // since when something has been, and nothing has come
	for {
		select {
		case <-l.users.changed:
		case <-look:
		case <-l.life.Done():
			return
		}
		waiting, working := l.users.count()
		switch {
		case waiting > 0:
			look = time.After(lookWaiting)
		case working > 0:
			look = time.After(lookWorking)
		default:
			look = nil
		}
		s, ok := t.signs(l)
		if now := time.Now(); !s.owed || now.Add(-s.heard).After(owed) {
			owed = now
		}
		if why := s.dead(time.Since(owed), waiting > 0, working > 0, l.command.Probe); ok && why != nil {
			t.lost <- failure{why: why, kind: Unseen}
			return
		}
	}
}

// signs are those of the connection that ssh has named, or of all, if it has not.
func (l *launch) signs() (signs, bool) {
	if isClosed(l.letIn) {
		return l.wire.signs(l.host)
	}
	return l.wire.signs("")
}

// dead is why the connection is dead, or nil. quiet is for how long something
// has been owed and nothing has come; clients wait for their first byte, others
// have had it and work.
func (s signs) dead(quiet time.Duration, waiting, working bool, probe time.Duration) error {
	switch {
	case waiting && !working && (quiet >= deadAlone || quiet >= lookWaiting && s.again >= deadAgain),
		waiting && quiet >= deadShared,
		quiet >= deadUsed:
		return lostError{fmt.Sprintf("nothing has come from the host for %s, nor was anything acknowledged", inSeconds(s.heard))}
	case waiting && !s.owed && probe > 0 && s.data >= probe+probeTakes:
		return lostError{fmt.Sprintf("the host has said nothing for %s, though ssh has asked", inSeconds(s.data))}
	}
	return nil
}

// users are the clients of a launch: those that wait for an answer, and those
// that have had one.
type users struct {
	changed chan struct{} // has something if another one waits or works

	mu               sync.Mutex
	waiting, working int
}

func newUsers() users { return users{changed: make(chan struct{}, 1)} }

func (u *users) add(waiting, working int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting += waiting
	u.working += working
	if waiting > 0 || working > 0 {
		select {
		case u.changed <- struct{}{}:
		default:
		}
	}
}

func (u *users) count() (waiting, working int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.waiting, u.working
}
