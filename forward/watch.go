package forward

import (
	"net"
	"time"
)

// watchAfter is how long most clients wait at most: watching one for so short a
// time is not worth it.
const watchAfter = 5 * time.Millisecond

// watch calls left, in a goroutine, when the client goes away: when it resets
// the connection, or closes its socket (gone says so). It takes no byte from
// the client's. A client that has sent something, or shut down its sending
// side, and is still there has not left. The caller must call the function
// that watch returns; the goroutine has ended when that returns.
func watch(c Stream, gone func(net.Conn) bool, left func()) (unwatch func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	begin := time.AfterFunc(watchAfter, func() {
		defer close(done)
		if !untilEnd(c) {
			return
		}
		if dead(c) || gone != nil && untilGone(c, gone, stop) {
			left()
		}
	})
	return func() {
		if begin.Stop() {
			return
		}
		close(stop)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes untilEnd
		<-done
		_ = c.SetReadDeadline(time.Time{})
	}
}

// untilEnd returns true when c's peer has ended its sending side or reset the
// connection, and false when c's read deadline has passed.
func untilEnd(c Stream) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	// The poller wakes us at every change, so it does no harm to go back to
	// sleep over unread bytes.
	return raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) }) == nil
}

// hungUp looks for the end of a stream without reading up to it.
func hungUp(fd int) bool { return polled(fd, pollRDHUP) }
