package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A stream is what *net.TCPConn and *net.UnixConn have in common.
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// dialNear is the dialer of near ends: no keepalives, for the peer is on this
// machine and its death closes the connection.
func dialNear(ctx context.Context, network, address string) (stream, error) {
	c, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.(stream), nil // tcp and unix connections both are
}

// A Conn is a lease on the tunnel.
type Conn struct {
	stream
	t    *Tunnel
	l    *launch
	once sync.Once
}

// NetConn returns the connection itself, for splice(2) and for whoever wants
// to take its socket elsewhere. Closing it does not give the lease back.
func (c *Conn) NetConn() net.Conn { return c.stream }

// Received is to be called when bytes have been read from NetConn: it has them
// acknowledged at once. All through a session there are several small segments.
func (c *Conn) Received() { c.l.wire.now() }

// Close ends the connection and gives the lease back.
func (c *Conn) Close() error {
	defer c.once.Do(func() {
		c.l.users.add(0, -1)
		c.t.giveBack(c.l)
	})
	return c.stream.Close()
}

// errEnds is why ssh has ended, if it takes too long to do so.
var errEnds = errors.New("ssh is about to end")

// Lost returns why ssh has ended, or nil if it has not. It is to be called when
// the connection has ended. An ssh that has begun to end is waited for; if it is
// not known whether it has, for d.
func (c *Conn) Lost(d time.Duration) error {
	var late error
	if ends := c.l.proof.Ends; ends != nil && !isClosed(c.l.ended) {
		switch ends, ok := ends(c.stream); {
		case ends:
			d, late = c.t.stopTimeout, errEnds
		case ok:
			return nil
		}
	}
	if isClosed(c.l.ended) {
		return c.l.reason()
	}
	select {
	case <-c.l.ended:
		return c.l.reason()
	case <-time.After(d):
		return late
	}
}
