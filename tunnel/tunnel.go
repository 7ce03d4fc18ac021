// Package tunnel supervises the one ssh process that is the tunnel. The first
// client launches it, a countdown after the last client has left ends it, and
// in between it is never closed. Nothing but a client ever launches it.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/rs/zerolog"
)

// ErrStopped is what Dial returns once Run has returned.
var ErrStopped = errors.New("the tunnel's supervisor has stopped")

// Config says what to run, and how long it may stay when nobody uses it.
type Config struct {
	// Command is called for each launch, and returns what it runs. It must return
	// at once, for a client waits.
	Command func() Command
	// Name is how errors and the log call the far end: the --host.
	Name string
	// NearEnds are the local ends of the command's forwards: ports, or the paths of
	// Unix sockets. A launch that cannot listen on one of them has failed,
	// unless it has answered a client at another one.
	NearEnds []string
	// Idle is how long the tunnel stays after its last client has left, and
	// Jitter the bound of a random addition that is drawn afresh each time.
	// It stays for at least three seconds after its launch.
	Idle, Jitter time.Duration
	// Prove, if not nil, is told the pid of each launch, while it surely is that
	// of the launched process, and returns what tells whose the near ends are.
	Prove func(pid int) Proof
	// Listen, if not nil, is called for each launch, and returns what tells the
	// meaning of each line that the command says: to its log, which is its
	// standard output, or to its standard error, where also others say something
	// through it. Of itself a line is the reason if the command ends after it,
	// and nobody knows what it means.
	Listen func() func(line string, fromLog bool) Meaning
	// Changed, if not nil, is called whenever State or Clients of the status
	// have changed. The supervisor waits for its return.
	Changed func(Status)
	// Log gets one line per event. The zero Logger discards.
	Log zerolog.Logger
}

// A Command makes the tunnel.
type Command struct {
	// Argv begins with the program's name.
	Argv []string
	// Env is its whole environment, as in exec.Cmd; nil means our own.
	Env []string
	// Probe is how long it hears nothing from the host before it asks for a sign
	// of life; zero: it never does.
	Probe time.Duration
}

// A Proof reports whether a near end is that of one launch. A nil function says
// yes. Nothing is sent to, or passed on from, a near end of somebody else's.
type Proof struct {
	// Listens reports whether the launch listens at an address, before one of its
	// near ends is used for the first time: nil if so, ECONNREFUSED if nobody
	// does, otherwise who does.
	Listens func(network, address string) error
	// Leads reports whether a connection to an address, made after Listens has said
	// yes, is one to the launch. It may wait until it has been accepted, and must
	// end when ctx does. The error is ErrDropped, or says who is there.
	Leads func(ctx context.Context, c net.Conn, address string) error
	// Ends reports whether the launch has begun to end. It is asked when a connection
	// to it, c, has ended. Not ok: that is not known.
	Ends func(c net.Conn) (ends, ok bool)
	// Holder is who keeps the launch from listening at one of NearEnds; empty:
	// that is not known.
	Holder func(nearEnd string) string
	// Sweep ends what has outlived the launch, when that has been reaped.
	Sweep func()
}

// A Tunnel is a supervised ssh. Make it with New.
type Tunnel struct {
	cfg Config

	leases   chan leaseRequest
	returns  chan *launch // leases given back
	greeted  chan *launch // a launch that answered for the first time
	lost     chan error   // why the connection to the host is dead
	forget   chan struct{}
	statuses chan chan<- Status
	stopped  chan struct{} // closed when Run has returned

	// knocking bounds the connections that are dialed and not yet answered.
	knocking chan struct{}

	// The seams for tests: what a launch runs until it has ended, and how a
	// near end is dialed.
	run   func(ctx context.Context, l *launch) error
	dial  func(ctx context.Context, network, address string) (stream, error)
	signs func(l *launch) (signs, bool)
	// from one launch to the next, and of ssh's end
	between, stopTimeout time.Duration
}

// maxKnocking is how many connections may be dialed and not yet answered at a
// time. ssh's queue for its near end holds 128; what does not fit is dropped
// by the kernel and tried again seconds later.
const maxKnocking = 64

// New returns a tunnel that is down. It does nothing until Run is called.
func New(cfg Config) *Tunnel {
	t := &Tunnel{
		cfg:      cfg,
		leases:   make(chan leaseRequest),
		returns:  make(chan *launch),
		greeted:  make(chan *launch),
		lost:     make(chan error),
		forget:   make(chan struct{}),
		statuses: make(chan chan<- Status),
		stopped:  make(chan struct{}),
		// The last place is that of the prober, who keeps it for a while when
		// the others begin.
		knocking: make(chan struct{}, maxKnocking-1),
	}
	t.run, t.dial, t.signs = t.ssh, dialNear, (*launch).signs
	t.between, t.stopTimeout = betweenLaunches, stopTimeout
	return t
}

type leaseRequest struct {
	reply chan<- leaseReply
}

// A leaseReply is a lease on launch; or a reason why there is none just now
// and a channel that is closed when it is worth asking again; or, with retry
// nil as well, a refusal.
type leaseReply struct {
	launch *launch
	retry  <-chan struct{}
	err    error
	why    error     // what is still true when retry is closed; nil: nothing is
	until  time.Time // of a pause, which is the reason: why, without an err; zero: none
}

// Forget ends a back-off, so that the next client launches ssh at once, and
// starts the pauses anew.
func (t *Tunnel) Forget() {
	select {
	case t.forget <- struct{}{}:
	case <-t.stopped:
	}
}

// upTo draws a duration from [0, d].
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// noTunnel is what a client is told: which tunnel, why, and what comes next.
func noTunnel(name string, why error, next string) error {
	return fmt.Errorf("no tunnel to %s: %w%s", name, why, next)
}
