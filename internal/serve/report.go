package serve

import (
	"os"
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
		LogError: l.written.why(), Handover: true, Stopping: l.tell.IsStopping(), Foreground: l.s.Foreground, Manager: l.tell.Manager(), Given: l.given,
	}
	for _, d := range l.doors {
		r.Forwards = append(r.Forwards, daemon.ForwardReport{Listening: addresses([]door{d}), SMTP: d.SMTP, Near: d.Near, Far: d.Far})
	}
	if !l.s.Foreground {
		r.Log, r.LogInFile = l.s.LogFile, l.s.InFile("log-file")
	}
	select {
	case <-free:
	default:
		r.Before = l.before.PID
	}
	if at, why := f.LastRefusal(); why != nil {
		r.LastRefusal, r.LastRefusalAt = why.Error(), &at
	}
	return r
}
