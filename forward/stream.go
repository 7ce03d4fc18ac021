package forward

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Stream is a connection whose directions can be closed one by one, as
// *net.TCPConn and *net.UnixConn are.
type Stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// A Lease is a Stream that has more to it than its bytes: somebody keeps a
// tunnel for it until it is closed.
type Lease interface {
	Stream
	// NetConn returns the connection under it, where the bytes go: splice(2)
	// needs one of package net's own. Closing that does not end the lease.
	NetConn() net.Conn
	// Received is called when bytes have come.
	Received()
	// Lost returns why the tunnel has ended, or nil if it has not. It is called when
	// the connection has ended, and waits for d if it is not known whether the tunnel
	// ends.
	Lost(d time.Duration) error
}

// under is the connection that carries c's bytes.
func under(c Stream) Stream {
	if l, ok := c.(Lease); ok {
		if s, ok := l.NetConn().(Stream); ok {
			return s
		}
	}
	return c
}

// broken reports whether the end of c, read without an error after n bytes, was
// a reset. The kernel reports a reset once, to whichever of our directions
// touches the socket first; the other one reads what looks like an end.
func broken(c Stream, n int64) bool {
	_, tcp := c.(*net.TCPConn)
	return tcp && dead(c) && !finished(c, n)
}

// dead reports whether c's peer has reset it (poll(2), POLLERR or POLLHUP).
func dead(c Stream) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	is := false
	err = raw.Control(func(fd uintptr) { is = polled(int(fd), 0) })
	return err != nil || is
}

// polled asks poll(2) whether an event, or an error, is there.
func polled(fd int, event int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: event}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(event|unix.POLLERR|unix.POLLHUP) != 0
}

// reset closes c so that its peer sees an error, not a clean end that looks
// like success (RFC 9293, 3.10.7.1: a reset; socket(7), SO_LINGER).
func reset(c Stream) {
	if raw, err := c.SyscallConn(); err == nil { // a tunnel's connection has no SetLinger
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
	}
	c.Close()
}
