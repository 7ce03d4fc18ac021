package tunnel

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A launch is one life of ssh.
type launch struct {
	began    time.Time
	command  Command
	life     context.Context         // done when it is told to go, or has ended
	stop     context.CancelCauseFunc // ends it: TERM, later KILL; a failure as the cause is why it ended
	running  chan struct{}           // closed when it has a pid and a proof
	proof    Proof                   // read it after running
	letIn    chan struct{}           // closed when ssh says that the host has let it in
	letInAt  time.Time               // when that was; read it after letIn
	host     string                  // to where it is connected, Meaning.Host; read it after letIn
	answered chan struct{}           // closed by Run at the first answer
	ended    chan struct{}           // closed when the process is reaped
	err      error                   // why it ended; read it after ended
	prober   chan struct{}           // holds a token while a client tries whether it answers

	mu    sync.Mutex
	last  words             // of ssh's, what may explain a failure
	pid   int               // of ssh, once it runs
	nears map[string]string // of a near end's addresses, the one that is known to be ssh's
	users users

	wire *wire // hurries logins and first bytes

	// Run's own.
	leases  int
	closing bool
}

// launch starts ssh in a goroutine that ends, and closes ended, when ssh has
// been reaped. Run waits for it.
func (t *Tunnel) launch() *launch {
	l := newLaunch(t.cfg.Command())
	watched := make(chan struct{})
	go func() { // ends when the launch does, or is lost
		defer close(watched)
		t.watch(l)
	}()
	go func() {
		defer close(l.ended)
		l.err = t.run(l.life, l)
		l.stop(nil)
		<-watched
	}()
	return l
}

// newLaunch is one that has just begun. It must outlive the client whose request
// started it.
func newLaunch(command Command) *launch {
	life, stop := context.WithCancelCause(context.Background())
	return &launch{
		began:    time.Now(),
		command:  command,
		life:     life,
		stop:     stop,
		running:  make(chan struct{}),
		letIn:    make(chan struct{}),
		answered: make(chan struct{}),
		ended:    make(chan struct{}),
		prober:   make(chan struct{}, 1),
		users:    newUsers(),
		wire:     newWire(),
	}
}

// unused reports whether the countdown may begin: not under clients, nor before
// the host has let ssh in. A login that goes on is of use to the next client.
func (l *launch) unused() bool {
	return l.leases == 0 && !l.closing && !isClosed(l.ended) && (isClosed(l.letIn) || isClosed(l.answered))
}

// tooSlow is why a launch is ended whose login does not.
func (l *launch) tooSlow() error {
	why := fmt.Errorf("ssh has not logged in after %s", inSeconds(since(l.began)))
	if said := l.lastSince(l.began); said != "" {
		why = fmt.Errorf("%w (%s)", why, said)
	}
	return failure{why: why}
}

// since is how long ago something was, in full seconds that are over.
func since(t time.Time) time.Duration { return time.Since(t).Truncate(time.Second) }

func lasted(l *launch) time.Duration { return time.Since(l.began).Round(time.Millisecond) }
