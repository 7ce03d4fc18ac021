package forward

import (
	"context"
	"net"
	"time"
)

// stopping gives the end of ctx the cause ErrStopping, and puts it off where
// clients may go on waiting.
func (f *Forwarder) stopping(ctx context.Context, at net.Addr) (context.Context, func()) {
	child, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pass, ok := f.heir(at); ok && pass == nil {
			time.AfterFunc(f.DrainTimeout, func() { cancel(ErrStopping) })
		} else {
			cancel(ErrStopping)
		}
	})
	return child, func() { stop(); cancel(nil) }
}

func (f *Forwarder) heir(at net.Addr) (pass func(client net.Conn), ok bool) {
	if f.Heir == nil {
		return nil, false
	}
	return f.Heir(at)
}

// passOn gives a client that nothing has been said to yet to the heir, and
// reports whether there is one.
func (f *Forwarder) passOn(client net.Conn, s *service) bool {
	pass, _ := f.heir(s.at)
	if pass == nil {
		return false
	}
	f.clients.Debug().Stringer("client", client.RemoteAddr()).Msg("client passed on")
	pass(client)
	return true
}
