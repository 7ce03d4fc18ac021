package tunnel

import (
	"context"
	"io"
	"net"
	"syscall"
	"time"
)

// A stream is what *net.TCPConn and *net.UnixConn have in common.
type stream interface {
	net.Conn
	syscall.Conn
	CloseRead() error
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

// A conn is a lease on the tunnel. Its ReadFrom and WriteTo are those of the
// connection that it wraps, so that io.Copy still uses splice(2).
type conn struct {
	stream
	l        *launch
	giveBack func()
}

// Read has what has come acknowledged: at the end of a session, too, there are
// several small segments.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.stream.Read(p)
	c.l.acks.now()
	return n, err
}

func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.stream, r) }
func (c *conn) WriteTo(w io.Writer) (int64, error)  { return io.Copy(w, c.stream) }

// Close ends the connection and gives the lease back.
func (c *conn) Close() error {
	defer c.giveBack()
	return c.stream.Close()
}

// Lost returns why ssh has ended, or nil if it has not within d.
func (c *conn) Lost(d time.Duration) error {
	select {
	case <-c.l.ended:
		return c.l.reason()
	case <-time.After(d):
		return nil
	}
}
