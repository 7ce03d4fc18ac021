package serve

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/tunnel"
)

// report is what status tells.
func (l *life) report(since time.Time, t *tunnel.Tunnel, f *forward.Forwarder, free <-chan struct{}) daemon.Report {
	r := daemon.Report{
		PID: os.Getpid(), Since: since, User: daemon.UserName(), Host: l.s.Host,
		Listening: addresses(l.doors), Tunnel: daemon.NewTunnelReport(t.Status()), Clients: f.Stats(),
		Handover: true, Foreground: l.s.Foreground, Manager: l.tell.Manager(), Given: l.given,
	}
	for _, d := range l.doors {
		r.Forwards = append(r.Forwards, daemon.ForwardReport{Listening: addresses([]door{d}), SMTP: d.SMTP, Near: d.Near, Far: d.Far})
	}
	if !l.s.Foreground {
		r.Log = l.s.LogFile
	}
	select {
	case <-free:
	default:
		r.Before = l.before.PID
	}
	r.LastRefusal, r.LastRefusalAt = l.refused.last()
	return r
}

// refusals remember why a client was turned away the last time.
type refusals struct {
	mu  sync.Mutex // guards both
	why error
	at  time.Time
}

func (r *refusals) last() (why string, at *time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		return "", nil
	}
	at = new(time.Time)
	*at = r.at
	return r.why.Error(), at
}

// noting passes dial's results on, and remembers failures.
func (r *refusals) noting(dial forward.Dial) forward.Dial {
	return func(ctx context.Context) (forward.Stream, error) {
		c, err := dial(ctx)
		if err != nil && !errors.Is(err, forward.ErrClientLeft) && !errors.Is(err, forward.ErrStopping) {
			r.mu.Lock()
			r.why, r.at = err, time.Now()
			r.mu.Unlock()
		}
		return c, err
	}
}
