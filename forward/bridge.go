package forward

import (
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stream is a connection whose directions can be closed one by one, as
// *net.TCPConn and *net.UnixConn.
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// A bridge copies between a client and its server until both directions are
// done, and then closes both.
type bridge struct {
	*visit
	client, server stream // of the visit, or of its sockets

	mu      sync.Mutex
	cut     *time.Timer
	why     error // of the cut, once it was made
	stopped chan struct{}
}

// copy returns when both directions have ended and both sides are closed; no
// byte that a side has sent before it ended is lost to the other.
func (b *bridge) copy() {
	b.stopped = make(chan struct{})
	up := make(chan struct{})
	go func() { // ends at the latest when both connections are closed
		defer close(up)
		b.clientToServer()
		go b.tidy() // ends when copy does
	}()
	why := b.serverToClient()
	if why != nil || b.smtp {
		// The server is gone for good: wake the other direction.
		b.server.Close()
		_ = b.client.SetReadDeadline(time.Unix(1, 0))
	}
	<-up
	close(b.stopped)
	if b.smtp {
		farewell(b.client, why)
	}
	b.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut != nil {
		b.cut.Stop()
	}
}

// clientToServer copies one direction, and passes its end on as what it was:
// an orderly one closes the server's receiving side, a reset resets it. If it
// is the server that is dead, the other direction will see that too, once it
// has delivered what the server sent while it lived.
func (b *bridge) clientToServer() {
	err := b.pass(b.server, b.client, ofClient)
	switch {
	case err == nil && !broken(b.client, b.bytes[ofClient]):
		b.endedBy(endings[ofClient])
		_ = b.server.CloseWrite()
	case err == nil || dead(b.client):
		b.endedBy("client reset")
		reset(b.server)
	}
}

// pass copies one direction to its end, after what is left of the relay's.
func (b *bridge) pass(to, from stream, side int) error {
	if rest := b.rest[side]; len(rest) > 0 {
		n, err := to.Write(rest)
		b.bytes[side] += int64(n)
		if err != nil {
			return err
		}
	}
	if side == ofServer && b.smtp {
		return b.copyReplies()
	}
	n, err := io.Copy(to, from)
	b.bytes[side] += n
	return err
}

// serverToClient is the other direction. It returns why a client of SMTP
// should be told that the session is over.
func (b *bridge) serverToClient() (farewell error) {
	err := b.pass(b.client, b.server, ofServer)
	if err == nil && broken(b.server, b.bytes[ofServer]) {
		err = syscall.ECONNRESET
	}
	// A client that has ended its side, or has been told good-bye, expects the
	// end; to anybody else it may mean that the tunnel is gone.
	r := &b.replies
	expected := r.bye || b.end() == endings[ofClient]
	tell := b.smtp && !expected && r.between && r.total == b.bytes[ofServer]
	if cut := b.cutBecause(); cut != nil && tell {
		return cut
	}
	var lost error
	if !expected {
		lost = b.lost()
	}
	switch {
	case err != nil && dead(b.client):
		b.endedBy("client reset")
		return nil
	case lost != nil:
		b.endedBy("tunnel lost")
	case err != nil:
		b.endedBy("server reset")
	default:
		b.endedBy(endings[ofServer])
	}
	switch {
	case tell && lost != nil:
		return fmt.Errorf("%w: %w", errLost, lost)
	case tell:
		return errLost
	case err != nil || lost != nil && !b.smtp:
		reset(b.client)
	default:
		_ = b.client.CloseWrite()
	}
	return nil
}

// settle is how long what should end together may take to do so: a tunnel and
// its connections, or the two directions of a session.
const settle = 100 * time.Millisecond

// tidy ends the visit of a client that has closed its socket: nobody will read
// what a server still has to say. The server gets some time to finish. A
// client that has only shut down its sending side is left alone.
func (b *bridge) tidy() {
	gone := b.f.Gone
	if gone == nil {
		return
	}
	if untilGone(b.visit.client, gone, b.stopped) {
		b.cutAfter(b.f.DrainTimeout, nil) // the server may finish, too
	}
}

// untilGone returns true when gone is, and false when stop is closed. It asks
// often at first, and later once a second.
func untilGone(client net.Conn, gone func(net.Conn) bool, stop <-chan struct{}) bool {
	for pause := time.Millisecond; ; pause = min(4*pause, time.Second) {
		select {
		case <-stop:
			return false
		case <-time.After(pause):
		}
		if gone(client) {
			return true
		}
	}
}

// cutAfter ends the visit after d, if it has not ended by then. A client of
// SMTP is told why, if it can be.
func (b *bridge) cutAfter(d time.Duration, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut != nil {
		return
	}
	b.cut = time.AfterFunc(d, func() {
		b.endedBy("cut off")
		b.mu.Lock()
		b.why = why
		b.mu.Unlock()
		if b.smtp && why != nil {
			_ = b.client.SetWriteDeadline(time.Now().Add(lingering))
			b.server.Close() // copy does the rest
			return
		}
		reset(b.client) // what is cut off must not look finished
		reset(b.server)
	})
}

// cutBecause is why the visit was cut off, if it was.
func (b *bridge) cutBecause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

func (b *bridge) close() {
	b.client.Close()
	b.server.Close()
}

// broken tells whether the end of c, read without an error after n bytes, was
// a reset. The kernel reports a reset once, to whichever of our directions
// touches the socket first; the other one reads what looks like an end.
func broken(c stream, n int64) bool {
	_, tcp := c.(*net.TCPConn)
	return tcp && dead(c) && !finished(c, n)
}

// dead tells whether c's peer has reset it (poll(2), POLLERR or POLLHUP).
func dead(c stream) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var fds []unix.PollFd
	err = raw.Control(func(fd uintptr) {
		fds = []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(fds, 0)
	})
	return err != nil || fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
