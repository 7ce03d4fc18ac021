package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/tunnel"
)

// A handing is whom our clients go to when we stop.
type handing struct {
	to    atomic.Pointer[daemon.Heir]
	doors []door
}

// heir is forward's Heir. Without one the clients of the service manager's
// sockets are left to whom that starts next.
func (h *handing) heir(at net.Addr) (pass func(net.Conn), ok bool) {
	to := h.to.Load()
	switch {
	case to == nil:
		return nil, h.passed(at)
	case !to.Serves(at):
		return nil, false
	}
	return func(client net.Conn) { _ = to.Pass(at, client) }, true
}

func (h *handing) passed(at net.Addr) bool {
	for _, d := range h.doors {
		for _, l := range d.listeners {
			if d.passed && l.Addr() == at {
				return true
			}
		}
	}
	return false
}

// handOver reports whether the heir has everything now.
func (l *life) handOver(heir *daemon.Heir, h *handing) bool {
	l.tell.Replaced(heir.PID)
	if err := heir.Accept(l.pid); err != nil {
		l.log.Warn().Err(err).Int("pid", heir.PID).Msg("nobody has taken over: going on")
		l.tell.Replaced(os.Getpid())
		return false
	}
	l.log.Info().Int("pid", heir.PID).Msg("another minimail has taken over; clients at work may finish")
	h.to.Store(heir)
	l.pid.Forget()
	l.pid = nil
	l.control.Close()
	go heir.Hears(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }) // ends with the heir
	return true
}

// answer answers at the control socket, until that is closed.
func (l *life) answer(t *tunnel.Tunnel, f *forward.Forwarder, free <-chan struct{}) <-chan *daemon.Heir {
	heirs := make(chan *daemon.Heir)
	if l.control == nil {
		return heirs
	}
	since, pid, control := time.Now(), l.pid, l.control // handOver gives them away
	go daemon.Control{
		Log:    l.log,
		Heirs:  heirs,
		Report: func() daemon.Report { return l.report(since, t, f, free) },
		Legacy: func() daemon.Legacy {
			all := daemon.Legacy{PidFile: pid, Control: control, Doors: legacy(l.doors), Env: l.tell.Env()}
			if l.s.Foreground {
				all.Log = os.Stderr
			}
			return all
		},
	}.Answer(control)
	return heirs
}

// waitFor waits until the minimail before us has given the near ends up.
func (l *life) waitFor(ctx context.Context, free <-chan struct{}) error {
	select {
	case <-free:
		return nil
	default:
	}
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return cause
		}
		return fmt.Errorf("the minimail before this one, pid %d, still has the tunnel to %s, and clients at work there", l.before.PID, l.s.Host)
	}
}

// passedOn are listeners, by address, for the clients that the minimail before
// us passes on, until it has ended. free is closed when its ssh has.
func (l *life) passedOn() (at map[string]*passing, free <-chan struct{}) {
	gone := make(chan struct{})
	if l.before == nil {
		close(gone)
		return nil, gone
	}
	at = map[string]*passing{}
	for _, d := range l.doors {
		for _, listener := range d.listeners {
			at[listener.Addr().String()] = &passing{listener.Addr(), make(chan net.Conn), make(chan struct{})}
		}
	}
	go func() { // ends with the one before us, which attend waits for
		var hands sync.WaitGroup
		l.before.Clients(func(to string, client net.Conn) {
			if p := at[to]; p != nil {
				hands.Go(func() { p.clients <- client }) // ends when it is accepted
			} else {
				client.Close()
			}
		})
		close(gone)
		hands.Wait()
		for _, p := range at {
			close(p.closed)
		}
	}()
	return at, gone
}

// A passing is a listener for the clients that the minimail before us has accepted.
// They come as long as that one runs, also when we are told to stop: so Close does
// nothing, and forward serves each, or says why it does not.
type passing struct {
	at      net.Addr
	clients chan net.Conn
	closed  chan struct{}
}

func (p *passing) Accept() (net.Conn, error) {
	select {
	case c := <-p.clients:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *passing) Close() error   { return nil }
func (p *passing) Addr() net.Addr { return p.at }
