package forward

import (
	"context"
	"net"
	"sync"
	"time"
)

// A visit is a client at work: what is left of it when it need not wait any
// more. Its bytes are in the hands of the relay, or of a bridge.
type visit struct {
	f      *Forwarder
	client net.Conn
	server net.Conn // as dial has made it: closing it gives back what it holds
	smtp   bool
	began  time.Time
	waited time.Duration

	bytes   [2]int64 // that were copied, from the client and from the server
	replies replies  // what the server has said so far, if smtp

	// The relay's, while the visit is there.
	sockets [2]int
	ended   [2]bool
	late    *time.Timer // once one side has ended

	rest [2][]byte // what was read from a side, and could not be written yet

	mu  sync.Mutex
	how string // what ended it: the first thing seen
}

// The sides of a visit.
const (
	ofClient = iota
	ofServer
)

// endings are the orderly ones.
var endings = [2]string{ofClient: "client closed", ofServer: "server closed"}

// A leased connection has more to it than its bytes (package tunnel).
type leased interface {
	NetConn() net.Conn          // where the bytes go
	Received()                  // is to be called when some have come
	Lost(d time.Duration) error // why the tunnel has ended, if it has within d
}

func (v *visit) clientStream() stream { return v.client.(stream) }

func (v *visit) serverStream() stream {
	if l, ok := v.server.(leased); ok {
		return l.NetConn().(stream)
	}
	return v.server.(stream)
}

// received tells the server's connection that bytes have come.
func (v *visit) received() {
	if l, ok := v.server.(leased); ok {
		l.Received()
	}
}

// lost returns why the tunnel under the server's connection has ended, if it is
// that which has ended the connection. An ssh that lives holds its end of it
// until both directions are done.
func (v *visit) lost() error {
	l, ok := v.server.(leased)
	if !ok || v.f.Gone == nil || !v.f.Gone(v.server) {
		return nil
	}
	return l.Lost(settle)
}

func (v *visit) endedBy(how string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.how == "" {
		v.how = how
	}
}

func (v *visit) end() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.how
}

// cross has a bridge copy until the visit is over. It is cut off DrainTimeout
// after ctx is done.
func (v *visit) cross(ctx context.Context, client, server stream) {
	b := &bridge{visit: v, client: client, server: server}
	stop := context.AfterFunc(ctx, func() { b.cutAfter(v.f.DrainTimeout, ErrStopping) })
	defer stop()
	b.copy()
	v.over()
}

// over is the end of a visit whose bytes are all copied.
func (v *visit) over() {
	f := v.f
	defer f.leave()
	v.server.Close() // what it holds is given back
	f.stats.working.Add(-1)
	f.stats.served.Add(1)
	f.stats.up.Add(v.bytes[ofClient])
	f.stats.down.Add(v.bytes[ofServer])
	f.Log.Info().Stringer("client", v.client.RemoteAddr()).Stringer("waited", v.waited).Stringer("lasted", since(v.began)).
		Int64("bytes_up", v.bytes[ofClient]).Int64("bytes_down", v.bytes[ofServer]).Str("end", v.end()).Msg("client served")
}
