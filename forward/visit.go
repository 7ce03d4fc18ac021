package forward

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A visit is a client at work, with a connection to the far end.
type visit struct {
	f      *Forwarder
	client Stream
	server Stream   // as dial has made it: closing it gives back what it holds
	talk   *session // what they say to each other; nil: they do not speak SMTP
	began  time.Time
	waited time.Duration
	place  string      // of the gate
	calm   func() bool // stops waiting for a stop

	up, down direction     // what the client says, and what the server says
	ended    chan struct{} // closed when the client's direction has
	gone     chan struct{} // closed when both have

	mu      sync.Mutex
	outcome string      // what ended it: the first thing seen
	cut     *time.Timer // that is going to cut it off
	why     error       // of the cut, once it was made
	late    time.Time   // no other mail may begin after that; zero: it may
}

// The outcomes that are as they should be.
const (
	clientClosed = "client closed"
	serverClosed = "server closed"
)

const tunnelLost = "tunnel lost"

// newVisit is cut off DrainTimeout after ctx is done.
func newVisit(ctx context.Context, f *Forwarder, client, server Stream, smtp bool) *visit {
	v := &visit{f: f, client: client, server: server, ended: make(chan struct{}), gone: make(chan struct{})}
	v.up = direction{from: client, to: under(server)}
	v.down = direction{from: v.up.to, to: client}
	v.down.lease, _ = server.(Lease)
	if smtp {
		v.talk = new(session)
		v.up.seen, v.down.seen = v.clientSays, v.talk.server
	}
	v.up.raw, _ = v.up.from.SyscallConn()
	v.down.raw, _ = v.down.from.SyscallConn()
	v.calm = context.AfterFunc(ctx, func() {
		v.mu.Lock()
		v.late = time.Now().Add(f.DrainTimeout / 2)
		v.mu.Unlock()
		v.cutAfter(f.DrainTimeout, ErrStopping)
	})
	return v
}

// clientSays is shown what the client of a mail session says, before it is passed
// on. In the second half of the time to finish no other mail may begin: one that is
// cut off between its dot and the reply is sent twice.
func (v *visit) clientSays(p []byte) {
	v.talk.client(p)
	v.mu.Lock()
	late := !v.late.IsZero() && time.Now().After(v.late)
	v.mu.Unlock()
	if late && v.talk.anotherMail() {
		v.cutOff(ErrStopping)
	}
}

// lost returns why the tunnel under the server's connection has ended, if it is
// that which has ended the connection.
func (v *visit) lost() error {
	l, d := v.down.lease, settle
	switch {
	case l == nil || v.talk != nil && v.talk.leaving(): // who has been told good-bye expects the end
		return nil
	case v.concludedBy(clientClosed): // so does a client that has said all: it need not wait
		d = 0
	}
	return l.Lost(d)
}

// concluded notes an outcome, if it is the first one.
func (v *visit) concluded(outcome string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.outcome == "" {
		v.outcome = outcome
	}
}

// overruled notes an outcome, whatever was seen before.
func (v *visit) overruled(outcome string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.outcome = outcome
}

func (v *visit) concludedBy(outcome string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.outcome == outcome
}

// over is when all bytes are copied.
func (v *visit) over() {
	f := v.f
	defer f.goOut()
	defer f.gate.leave(v.place)
	v.calm()
	v.mu.Lock()
	if v.cut != nil {
		v.cut.Stop()
	}
	v.mu.Unlock()
	f.stats.working.Add(-1)
	if v.gotNothing() {
		f.turnedAway(v.client, v.began, errSilent)
		return
	}
	f.stats.up.Add(v.up.n)
	f.stats.down.Add(v.down.n)
	f.stats.served.Add(1) // last: who sees that a client was served sees its bytes
	f.clients.Info().Stringer("client", v.client.RemoteAddr()).Stringer("waited", v.waited).Stringer("lasted", since(v.began)).
		Int64("bytes_up", v.up.n).Int64("bytes_down", v.down.n).Str("end", v.outcome).Msg("client served")
}

// errSilent is why a client got nothing.
var errSilent = errors.New("the far end has ended the connection without a word")

// gotNothing reports whether the client was there for an answer, and the far end
// gave none: its port is closed, say, of which ssh tells by an end.
func (v *visit) gotNothing() bool {
	return v.down.n == 0 && (v.outcome == serverClosed || v.outcome == "server reset" || v.outcome == tunnelLost)
}
