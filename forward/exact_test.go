package forward

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A wire is one end of a stream that lives in the test's memory, so that time
// can be asserted to equality in a bubble.
type wire struct{ net.Conn }

func newWire() (wire, wire) {
	a, b := net.Pipe()
	return wire{a}, wire{b}
}

func (wire) SyscallConn() (syscall.RawConn, error) { return nil, errors.New("there is no socket") }
func (wire) CloseWrite() error                     { return nil }

// A queue is a listener whose clients are all in one channel.
type queue struct {
	clients chan net.Conn
	fails   int // of the first calls
	closed  chan struct{}
}

func newQueue(clients ...net.Conn) *queue {
	q := &queue{clients: make(chan net.Conn, 10), closed: make(chan struct{}, 1)}
	for _, c := range clients {
		q.clients <- c
	}
	return q
}

func (q *queue) Accept() (net.Conn, error) {
	if q.fails > 0 {
		q.fails--
		return nil, syscall.EMFILE
	}
	select {
	case c := <-q.clients:
		return c, nil
	case <-q.closed:
		q.closed <- struct{}{}
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	select {
	case q.closed <- struct{}{}:
	default:
	}
	return nil
}

func (q *queue) Addr() net.Addr { return &net.UnixAddr{Name: "queue", Net: "test"} }

func TestAClientIsHeldForExactlyDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, ours := newWire()
		refused := make(chan error)
		f := &Forwarder{DialTimeout: 90 * time.Second}
		f.OnDialError = func(c Stream, err error) { c.Close(); refused <- err }
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		began := time.Now()
		go f.Serve(ctx, newQueue(ours), func(ctx context.Context) (Stream, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		if err := <-refused; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("refused because of %v", err)
		}
		if d := time.Since(began); d != 90*time.Second {
			t.Errorf("held for %s", d)
		}
		client.Close()
	})
}

func TestAClientAtWorkIsCutOffExactlyWhenTheDrainTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, ours := newWire()
		server, theirs := newWire()
		f := &Forwarder{DialTimeout: time.Hour, DrainTimeout: 30 * time.Second}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- f.Serve(ctx, newQueue(ours), func(context.Context) (Stream, error) { return theirs, nil })
		}()
		time.Sleep(time.Hour) // a session may last as long as it likes
		stop()
		stopped := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(stopped); d != 30*time.Second {
			t.Errorf("cut off after %s", d)
		}
		for name, c := range map[string]net.Conn{"client": client, "server": server} {
			if _, err := c.Write([]byte("x")); err == nil {
				t.Errorf("the %s's connection is still there", name)
			}
		}
	})
}

// The far end sees that its client has gone within a second.
func TestASilentServerIsLeftAloneForTheGraceAfterItsClientHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, ours := newWire()
		_, theirs := newWire()
		began := time.Now()
		f := &Forwarder{DrainTimeout: time.Minute}
		f.Gone = func(net.Conn) bool { return time.Since(began) >= 10*time.Second }
		v := newVisit(t.Context(), f, ours, theirs, false)
		client.Close()
		v.serve()
		if d := time.Since(began); d < 70*time.Second || d > 71*time.Second {
			t.Errorf("cut off after %s", d)
		}
		if v.outcome != clientClosed {
			t.Errorf("ended by %q", v.outcome)
		}
	})
}

func TestThePausesAfterAcceptErrorsDoubleUpToASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, ours := newWire()
		defer client.Close()
		var log journal
		q := newQueue(ours)
		q.fails = 10
		f := &Forwarder{DialTimeout: time.Hour, Log: log.log()}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		began, dialed := time.Now(), make(chan struct{})
		go f.Serve(ctx, q, func(ctx context.Context) (Stream, error) {
			close(dialed)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		<-dialed
		// 5, 10, 20, … 640 ms, and two of a second.
		if d := time.Since(began); d != 1275*time.Millisecond+2*time.Second {
			t.Errorf("ten errors took %s", d)
		}
		if n := strings.Count(log.String(), "cannot accept a client"); n != 10 {
			t.Errorf("%d lines in the log:\n%s", n, &log)
		}
	})
}

func TestStoppingDoesNotWaitForThePauseAfterAnAcceptError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fails = 1 << 30
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- new(Forwarder).Serve(ctx, q, nil) }()
		time.Sleep(1300 * time.Millisecond) // in the middle of a pause of 1 s
		stop()
		stopped := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(stopped); d != 0 {
			t.Errorf("stopped after %s", d)
		}
	})
}

// A busy queue has a new client each time it is asked, as *net.TCPListener
// would on a machine whose programs try again at once.
type busy struct {
	*queue
	deadline atomic.Pointer[time.Time]
	giveUp   time.Time
}

func (b *busy) SetDeadline(t time.Time) error { b.deadline.Store(&t); return nil }

func (b *busy) Accept() (net.Conn, error) {
	time.Sleep(time.Millisecond)
	now := time.Now()
	switch {
	case now.After(b.giveUp):
		return nil, net.ErrClosed
	case b.deadline.Load() != nil && now.After(*b.deadline.Load()):
		return nil, &net.OpError{Op: "accept", Err: context.DeadlineExceeded}
	}
	_, ours := newWire()
	return ours, nil
}

func TestStoppingEndsThoughClientsKeepComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{queue: newQueue(), giveUp: time.Now().Add(time.Minute)}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		began := time.Now()
		_ = patient().Serve(ctx, b, nil)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("accepted and refused clients for %s", d)
		}
	})
}
