package forward

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// watchAfter is how long most clients wait at most: watching one for so short a
// time is not worth it.
const watchAfter = 5 * time.Millisecond

// watch calls left, in a goroutine, when the client goes away: when it resets
// the connection, or closes its socket (gone says so). It takes no byte from
// the client's. A client that has sent something, or shut down its sending
// side, and is still there has not left. The caller must call the function
// that watch returns; the goroutine has ended when that returns.
func watch(client net.Conn, gone func(net.Conn) bool, left func()) (unwatch func()) {
	c, ok := client.(stream)
	if !ok {
		return func() {}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	begin := time.AfterFunc(watchAfter, func() {
		defer close(done)
		if !untilEnd(c) {
			return
		}
		if dead(c) || gone != nil && untilGone(client, gone, stop) {
			left()
		}
	})
	return func() {
		if begin.Stop() {
			return
		}
		close(stop)
		_ = client.SetReadDeadline(time.Unix(1, 0)) // wakes untilEnd
		<-done
		_ = client.SetReadDeadline(time.Time{})
	}
}

// untilEnd returns true when c's peer has ended its sending side or reset the
// connection, and false when c's read deadline has passed.
func untilEnd(c stream) bool {
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

// polled asks poll(2) whether an event, or the end, is there.
func polled(fd int, event int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: event}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(event|unix.POLLERR|unix.POLLHUP) != 0
}
