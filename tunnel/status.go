package tunnel

import "time"

// A State is what the supervisor is at.
type State string

const (
	Down       State = "down"        // no ssh; the next client launches one
	Starting   State = "starting"    // ssh runs, and has not answered yet
	Up         State = "up"          // ssh has answered
	Closing    State = "closing"     // ssh was told to go
	BackingOff State = "backing off" // after a launch that failed
)

// A Status is a snapshot of the supervisor.
type Status struct {
	State State
	// Since is when ssh was launched; zero if there is none.
	Since time.Time
	// PID is ssh's process id; 0 if there is none.
	PID int
	// Clients is how many have a lease on ssh, those included that still wait
	// for its answer.
	Clients int
	// Until is when a countdown closes the tunnel, or a back-off ends; zero if
	// neither is on.
	Until time.Time
	// Why is the reason of a back-off; nil if none is on.
	Why error
	// LastError is why ssh ended by itself the last time, at LastErrorAt; nil
	// if it never has.
	LastError   error
	LastErrorAt time.Time
}

// Status asks the supervisor for a snapshot. It returns the zero Status once
// Run has returned, and must not be called before Run is.
func (t *Tunnel) Status() Status {
	reply := make(chan Status, 1)
	select {
	case t.statuses <- reply:
		return <-reply
	case <-t.stopped:
		return Status{}
	}
}

// statusOf puts Run's locals into a snapshot.
func statusOf(now *launch, closesAt time.Time, pauses *backOff) Status {
	s := Status{State: Down, LastError: pauses.why, LastErrorAt: pauses.since}
	if pauses.on() {
		s.State, s.Until, s.Why = BackingOff, pauses.until, pauses.why
	}
	if now == nil {
		return s
	}
	s.State, s.Since, s.PID, s.Clients, s.Until = Starting, now.began, now.process(), now.leases, closesAt
	switch {
	case now.closing:
		s.State = Closing
	case isClosed(now.answered):
		s.State = Up
	}
	return s
}

func (l *launch) process() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pid
}

// runs is called once, when there is a process.
func (l *launch) runs(pid int, prove func(pid int) Proof) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pid = pid
	if prove != nil {
		l.proof = prove(pid)
	}
	close(l.running)
}
