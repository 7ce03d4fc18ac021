package forward

import (
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
	client, server stream
	gone           func(net.Conn) bool
	grace          time.Duration // for a server whose client is gone

	up, down int64 // bytes from and to the client; valid after copy

	mu      sync.Mutex
	how     string // what ended it: the first thing seen
	cut     *time.Timer
	stopped chan struct{}
}

// copy returns when both directions have ended; no byte that a side has sent
// before it ended is lost to the other.
func (b *bridge) copy() {
	b.stopped = make(chan struct{})
	up := make(chan struct{})
	go func() { // ends at the latest when both connections are closed
		defer close(up)
		b.up = b.half(b.server, b.client, "client")
		go b.tidy() // ends when copy does
	}()
	b.down = b.half(b.client, b.server, "server")
	<-up
	close(b.stopped)
	b.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut != nil {
		b.cut.Stop()
	}
}

// half copies one direction. src's end is passed on to dst as what it was: an
// orderly one closes dst's sending side, and a reset resets dst. If it is dst
// that is dead, the other direction will see that too, once it has delivered
// what dst sent while it lived.
func (b *bridge) half(dst, src stream, who string) int64 {
	n, err := io.Copy(dst, src)
	switch {
	case err == nil:
		b.endedBy(who + " closed")
		_ = dst.CloseWrite()
	case dead(src):
		b.endedBy(who + " reset")
		reset(dst)
	default:
		b.endedBy("the other side of the " + who + " reset")
	}
	return n
}

// tidy ends the visit of a client that has closed its socket: nobody will read
// what a server still has to say. The server gets some time to finish. A
// client that has only shut down its sending side is left alone.
func (b *bridge) tidy() {
	if b.gone == nil {
		return
	}
	if untilGone(b.client, b.gone, b.stopped) {
		b.cutAfter(b.grace)
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

// cutAfter cuts both directions off after d, if they have not ended by then.
func (b *bridge) cutAfter(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut == nil {
		b.cut = time.AfterFunc(d, func() {
			b.endedBy("cut off")
			b.close()
		})
	}
}

func (b *bridge) close() {
	b.client.Close()
	b.server.Close()
}

func (b *bridge) endedBy(how string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.how == "" {
		b.how = how
	}
}

func (b *bridge) end() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.how
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
