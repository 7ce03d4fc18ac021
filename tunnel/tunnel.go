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
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// ErrStopped is what Dial returns once Run has returned.
var ErrStopped = errors.New("the tunnel's supervisor has stopped")

// Config says what to run, and how long it may stay when nobody uses it.
type Config struct {
	// Argv is the command that makes the tunnel, the program's name first.
	Argv []string
	// Env is its whole environment, as in exec.Cmd; nil means our own.
	Env []string
	// Name is how errors and the log call the far end: the --host.
	Name string
	// NearEnds are the local ends of Argv's forwards: ports, or the paths of
	// Unix sockets. A launch that cannot listen on one of them has failed,
	// unless it has answered a client at another one.
	NearEnds []string
	// Idle is how long the tunnel stays after its last client has left, and
	// Jitter the bound of a random addition that is drawn afresh each time.
	// Both zero: it is closed at once.
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

// A Proof tells whether a near end is that of one launch. A nil function says
// yes. Nothing is sent to, or passed on from, a near end of somebody else's.
type Proof struct {
	// Listens says whether the launch listens at an address, before one of its
	// near ends is used for the first time: nil if so, ECONNREFUSED if nobody
	// does, otherwise who does.
	Listens func(network, address string) error
	// Leads says whether a connection to an address, made after Listens has said
	// yes, is one to the launch. It may wait until it has been accepted, and must end when
	// ctx does. The error is ErrDropped, or says who is there.
	Leads func(ctx context.Context, c net.Conn, address string) error
	// Holder is who keeps the launch from listening at one of NearEnds; empty:
	// that is not known.
	Holder func(nearEnd string) string
}

// A Tunnel is a supervised ssh. Make it with New.
type Tunnel struct {
	cfg Config

	leases   chan leaseRequest
	returns  chan *launch // leases given back
	greeted  chan *launch // a launch that answered for the first time
	forget   chan struct{}
	statuses chan chan<- Status
	stopped  chan struct{} // closed when Run has returned

	// knocking bounds the connections that are dialed and not yet answered.
	knocking chan struct{}

	// The seams for tests: what a launch runs until it has ended, and how a
	// near end is dialed.
	run  func(ctx context.Context, l *launch) error
	dial func(ctx context.Context, network, address string) (stream, error)
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
		forget:   make(chan struct{}),
		statuses: make(chan chan<- Status),
		stopped:  make(chan struct{}),
		// The last place is that of the prober, who keeps it for a while when
		// the others begin.
		knocking: make(chan struct{}, maxKnocking-1),
	}
	t.run, t.dial = t.ssh, dialNear
	return t
}

// A launch is one life of ssh.
type launch struct {
	began    time.Time
	life     context.Context    // done when it is told to go, or has ended
	stop     context.CancelFunc // ends it: TERM, later KILL
	running  chan struct{}      // closed when it has a pid and a proof
	proof    Proof              // read it after running
	letIn    chan struct{}      // closed when ssh says that the host has let it in
	letInAt  time.Time          // when that was; read it after letIn
	host     string             // to where it is connected, Meaning.Host; read it after letIn
	answered chan struct{}      // closed by Run at the first answer
	ended    chan struct{}      // closed when the process is reaped
	err      error              // why it ended; read it after ended
	prober   chan struct{}      // holds a token while a client tries whether it answers

	mu    sync.Mutex
	last  words             // of ssh's, what may explain a failure
	pid   int               // of ssh, once it runs
	nears map[string]string // of a near end's addresses, the one that is known to be ssh's

	wire *wire // hurries logins and first bytes

	// Run's own.
	leases  int
	closing bool
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
	why    error // as err, but still true when retry is closed; nil: nothing is
}

// Run supervises the tunnel until ctx is done, then stops ssh, waits for its
// end (a few seconds at most) and returns. Call it once. Whoever dials after
// that gets ErrStopped.
func (t *Tunnel) Run(ctx context.Context) {
	defer close(t.stopped)
	var (
		now       *launch // nil: there is no ssh
		ended     <-chan struct{}
		countdown <-chan time.Time
		closesAt  time.Time // at the end of the countdown
		pauses    backOff
		told      Status
	)
	for {
		if countdown == nil {
			closesAt = time.Time{}
		}
		if s := statusOf(now, closesAt, &pauses); t.cfg.Changed != nil && (s.State != told.State || s.Clients != told.Clients) {
			told = s
			t.cfg.Changed(s)
		}
		select {
		case reply := <-t.statuses:
			reply <- statusOf(now, closesAt, &pauses)
		case req := <-t.leases:
			if now == nil && !pauses.on() {
				now = t.launch()
				ended = now.ended
			}
			switch {
			case now == nil:
				req.reply <- pauses.reply(t.cfg.Name)
			case now.closing:
				req.reply <- leaseReply{retry: now.ended, err: errors.New("the last tunnel is still closing")}
			default:
				if countdown != nil {
					t.cfg.Log.Info().Msg("a client has come: countdown called off")
					countdown = nil
				}
				now.leases++
				req.reply <- leaseReply{launch: now}
			}
		case l := <-t.returns:
			l.leases--
			if l == now && l.leases == 0 && !l.closing && !isClosed(l.ended) {
				d := t.cfg.Idle + upTo(t.cfg.Jitter)
				t.cfg.Log.Info().Stringer("closes_in", d.Round(time.Millisecond)).Msg("the last client has left: countdown started")
				countdown, closesAt = time.After(d), time.Now().Add(d)
			}
		case <-countdown:
			t.cfg.Log.Info().Msg("time's up: closing the tunnel")
			countdown, now.closing = nil, true
			now.stop()
		case l := <-t.greeted:
			if l == now && !isClosed(l.answered) {
				t.cfg.Log.Info().Stringer("after", lasted(l)).Msg("the tunnel answers")
				close(l.answered)
				pauses.forget()
			}
		case <-ended:
			if now.closing {
				t.cfg.Log.Info().Stringer("lasted", lasted(now)).Msg("the tunnel is closed")
			} else {
				d := pauses.failed(now.err, now.began)
				t.cfg.Log.Warn().AnErr("why", now.err).Stringer("lasted", lasted(now)).
					Stringer("back_off", d.Round(time.Millisecond)).Msg("the tunnel has ended by itself" + pauses.hint())
			}
			now, ended, countdown = nil, nil, nil
		case <-pauses.over:
			pauses.end()
		case <-t.forget:
			pauses.forget()
		case <-ctx.Done():
			pauses.end()
			if now != nil {
				now.stop()
				<-now.ended
			}
			return
		}
	}
}

// launch starts ssh in a goroutine that ends, and closes ended, when ssh has
// been reaped. Run waits for it.
func (t *Tunnel) launch() *launch {
	// The launch must outlive the client whose request started it.
	ctx, stop := context.WithCancel(context.Background())
	l := &launch{
		began:    time.Now(),
		life:     ctx,
		stop:     stop,
		running:  make(chan struct{}),
		letIn:    make(chan struct{}),
		answered: make(chan struct{}),
		ended:    make(chan struct{}),
		prober:   make(chan struct{}, 1),
		wire:     newWire(),
	}
	go func() {
		defer close(l.ended)
		defer stop()
		l.err = t.run(ctx, l)
	}()
	return l
}

// Forget ends a back-off, so that the next client launches ssh at once, and
// starts the pauses anew.
func (t *Tunnel) Forget() {
	select {
	case t.forget <- struct{}{}:
	case <-t.stopped:
	}
}

func lasted(l *launch) time.Duration { return time.Since(l.began).Round(time.Millisecond) }

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
