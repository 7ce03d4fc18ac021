// Package forward accepts clients, hands each a connection from a dial
// function, and copies bytes both ways, untouched.
package forward

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

var (
	// ErrStopping is why a client that still waits is turned away when the
	// forwarder is stopped.
	ErrStopping = errors.New("minimail is stopping")
	// ErrClientLeft is why the dial for a client is given up when the client
	// has gone away meanwhile.
	ErrClientLeft = errors.New("the client has left")
)

// A Dial function makes a client's connection to the far end. It must return
// when ctx is done; context.Cause(ctx) is then ErrStopping, ErrClientLeft or
// context.DeadlineExceeded. The forwarder closes the connection.
type Dial func(ctx context.Context) (Stream, error)

// A Forwarder serves any number of listeners. Its fields must not be changed
// once Serve has been called. The zero value waits for no tunnel and drains
// nobody: set at least DialTimeout.
type Forwarder struct {
	// DialTimeout is how long a client is held while its connection is made.
	DialTimeout time.Duration
	// DrainTimeout is how long clients at work may finish once Serve's ctx is
	// done; zero: they are cut off.
	DrainTimeout time.Duration
	// MaxClients is how many clients are served at a time; zero or less: any
	// number. The others wait. In the long run no more than an eighth of it, and at
	// least 32, are let in each second, after a burst of 64 times as many.
	MaxClients int
	// MaxWaiting is how many clients may wait for a place, and can be told if there
	// is none; zero: any number. The others are left in the kernel's queue.
	MaxWaiting int
	// Owner tells the user at a client's other end, if that is known. If set, nobody
	// can have all places: neither a user, nor another machine.
	Owner func(client net.Conn) (uid int, ok bool)
	// OnDialError is called with a client that cannot be served, and why. It
	// may write to the client, and closes it. If nil, the client gets a reset,
	// which no client takes for success.
	OnDialError func(client Stream, err error)
	// Gone reports whether the process at a client's other end, which has sent
	// its last byte, has closed its socket altogether; a client that has only
	// shut down its sending side still waits for an answer. If nil, both are
	// taken for the latter.
	Gone func(client net.Conn) bool
	// Heir, if not nil, is asked when Serve's ctx is done whether somebody else
	// serves the listening socket at that address from now on. Then clients in the
	// kernel's queue are left there, and those that wait are given to pass, which
	// closes them here; without a pass they go on waiting, as long as clients at
	// work may finish. It must not block.
	Heir func(at net.Addr) (pass func(client net.Conn), ok bool)
	// Log gets one line per client, as long as there are few, and never a byte of
	// what is forwarded. The zero Logger discards.
	Log zerolog.Logger

	once     sync.Once
	clients  zerolog.Logger // Log, but limited
	gate     *gate
	inside   chan struct{} // has an element for each client that was accepted
	refusing atomic.Int64
	refusal  atomic.Pointer[refusal]
	stats    struct{ waiting, working, served, refused, up, down atomic.Int64 }
}

// Stats counts clients: those that wait for a connection now, those at work
// now, and those that were served or turned away so far; and the bytes that
// those served have sent (up) and got.
type Stats struct {
	Waiting   int64 `json:"waiting"`
	Working   int64 `json:"working"`
	Served    int64 `json:"served"`
	Refused   int64 `json:"refused"`
	BytesUp   int64 `json:"bytes_up"`
	BytesDown int64 `json:"bytes_down"`
}

// Stats returns a snapshot. Bytes are counted when a client leaves.
func (f *Forwarder) Stats() Stats {
	s := &f.stats
	return Stats{s.waiting.Load(), s.working.Load(), s.served.Load(), s.refused.Load(), s.up.Load(), s.down.Load()}
}

// Serve accepts clients from l, which it closes, until ctx is done, and serves
// each with a connection from dial. It returns when its last client has gone
// or DrainTimeout is over: nil if ctx was done, else why l cannot accept any
// more. Errors that may pass, such as a lack of file descriptors, are logged
// and waited out. It may be called for several listeners at the same time;
// MaxClients is for all of them together.
func (f *Forwarder) Serve(ctx context.Context, l net.Listener, dial Dial) error {
	refuse := func(client Stream, _ error) { reset(client) }
	if f.OnDialError != nil {
		refuse = f.OnDialError
	}
	return f.accepting(ctx, l, service{dial: dial, refuse: refuse})
}

// A service is what the clients of one listener get.
type service struct {
	dial   Dial
	refuse func(client Stream, err error) // closes the client
	smtp   bool
	at     net.Addr
	open   context.Context // done, with the cause ErrStopping, when it is closed
}

func (f *Forwarder) accepting(ctx context.Context, l net.Listener, s service) error {
	f.once.Do(func() {
		f.clients = f.Log.Sample(&lines{log: f.Log})
		if f.MaxClients > 0 {
			f.gate = newGate(f.MaxClients, f.MaxWaiting, f.Owner)
			if f.MaxWaiting > 0 {
				f.inside = make(chan struct{}, f.MaxClients+f.MaxWaiting)
			}
		}
	})
	var clients sync.WaitGroup
	var stopped time.Time
	var closed func()
	s.at = l.Addr()
	s.open, closed = f.stopping(ctx, s.at)
	defer closed()
	defer clients.Wait()
	defer l.Close() // before the wait: who comes now is not to hang in the queue
	defer context.AfterFunc(ctx, func() {
		if _, ok := f.heir(s.at); ok {
			l.Close() // its queue stays, in another descriptor
		} else {
			stopAccepting(l, lastCall)
		}
	})()
	for late := 0; ; {
		c, err := f.accept(ctx, l)
		if err != nil {
			if ctx.Err() == nil {
				return err
			}
			// The moment may have passed before we had a processor.
			if late++; late > maxLate || !errors.Is(err, os.ErrDeadlineExceeded) || !queued(l) {
				return nil
			}
			stopAccepting(l, lastCalls)
			continue
		}
		if !f.comeIn(s.open) {
			// One of those who came before we stopped: all of them are told.
			if stopped.IsZero() {
				stopped = time.Now()
			}
			moment := lastCall
			if time.Since(stopped) > lastCalls {
				moment = 0 // only for who is in the queue now
			}
			stopAccepting(l, moment)
			clients.Go(func() {
				if !f.passOn(c, &s) {
					s.refuse(c, ErrStopping)
				}
			})
			continue
		}
		clients.Go(func() {
			// A goroutine of its own: the stack that the dial needed is not kept
			// for as long as the client stays.
			if v := f.receive(ctx, c, &s); v != nil {
				clients.Go(v.serve)
			} else {
				f.goOut()
			}
		})
	}
}

// comeIn waits until one more client can be kept, or until ctx is done.
func (f *Forwarder) comeIn(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if f.inside == nil {
		return true
	}
	select {
	case f.inside <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (f *Forwarder) goOut() {
	if f.inside != nil {
		<-f.inside
	}
}

// receive returns a client's visit once it can be at work, or nil when it has
// been turned away.
func (f *Forwarder) receive(ctx context.Context, client Stream, s *service) *visit {
	began := time.Now()
	f.clients.Debug().Stringer("client", client.RemoteAddr()).Stringer("at", client.LocalAddr()).Msg("client has come")
	f.stats.waiting.Add(1)
	server, place, err := f.dial(client, s)
	f.stats.waiting.Add(-1)
	if err == nil {
		f.stats.working.Add(1)
		v := newVisit(ctx, f, client, server, s.smtp)
		v.began, v.waited, v.place = began, since(began), place
		return v
	}
	if errors.Is(err, ErrClientLeft) {
		client.Close()
		f.clients.Info().Stringer("client", client.RemoteAddr()).Stringer("waited", since(began)).Msg("client left before it was served")
		return nil
	}
	if errors.Is(err, ErrStopping) && f.passOn(client, s) {
		return nil
	}
	f.turnedAway(client, began, err)
	defer f.refusing.Add(-1)
	if f.refusing.Add(1) > maxRefusing {
		reset(client)
	} else {
		s.refuse(client, err)
	}
	return nil
}

// maxRefusing is how many clients are given time to read why they are refused.
const maxRefusing = 200

// since is rounded for the log.
func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Microsecond) }

// dial waits for a place and makes the client's connection, for as long as the
// client waits, its patience lasts and we are not stopped. Without a connection
// the place is given back.
func (f *Forwarder) dial(client Stream, s *service) (server Stream, place string, err error) {
	ctx, leave := context.WithCancelCause(s.open)
	defer leave(nil)
	ctx, late := context.WithTimeout(ctx, f.DialTimeout)
	defer late()
	defer watch(client, f.Gone, func() { leave(ErrClientLeft) })()
	if place, err = f.gate.enter(ctx, client); err != nil {
		return nil, "", err
	}
	if err = context.Cause(s.open); err == nil { // it may be that of who was stopped
		server, err = s.dial(ctx)
	}
	if err != nil {
		f.gate.leave(place)
	}
	return server, place, err
}
