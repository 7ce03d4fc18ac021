package tunnel

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sshd sends what a new connection brings (a channel's confirmation, the mail
// server's greeting) as small segments with Nagle's algorithm on: the second
// waits until the first is acknowledged, and our kernel takes its time for
// that, 40 ms. TCP_QUICKACK (tcp(7)) on ssh's own connection to the host makes
// it acknowledge at once. The option does not stay, so it is set again and
// again while somebody waits for a first byte.
//
// The connection belongs to ssh; a parent may take a duplicate of it
// (pidfd_getfd(2), Linux 5.6). Where the kernel does not allow that, or there
// is no such connection because of a ProxyCommand, everything works as before.
type acks struct {
	mu      sync.Mutex
	fd      int       // the duplicate; -1: there is none
	waiting int       // clients that wait for a first byte
	until   time.Time // when we give up waiting for them
	wake    chan struct{}
}

const (
	// ackEvery is short against 40 ms and long against the cost, about 1 µs.
	ackEvery = time.Millisecond
	// ackFor bounds the wait for a first byte: longer than 40 ms makes no sense.
	ackFor = 50 * time.Millisecond
)

func newAcks() *acks { return &acks{fd: -1, wake: make(chan struct{}, 1)} }

// follow serves one ssh, from its launch until gone is closed, and gives the
// duplicate back then, for as long as we have it the host sees no end.
func (a *acks) follow(pid int, answered, gone <-chan struct{}) {
	defer a.release()
	a.launching(pid, answered, gone)
	for {
		select {
		case <-a.wake:
		case <-gone:
			return
		}
		for a.expected() {
			a.now()
			select {
			case <-time.After(ackEvery):
			case <-gone:
				return
			}
		}
	}
}

// launching hurries the login, which is a conversation of small segments too.
func (a *acks) launching(pid int, answered, gone <-chan struct{}) {
	began := time.Now()
	for looking := true; ; {
		if looking {
			var fd int
			fd, looking = connection(pid)
			a.take(fd)
		}
		a.now()
		select {
		case <-time.After(max(ackEvery, time.Since(began)/128)):
		case <-answered:
			return
		case <-gone:
			return
		}
	}
}

// now has what has come acknowledged.
func (a *acks) now() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd >= 0 {
		_ = unix.SetsockoptInt(a.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// expect says that a client waits for its first byte, until the function that
// it returns is called.
func (a *acks) expect() (came func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return func() {}
	}
	a.waiting++
	a.until = time.Now().Add(ackFor)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.waiting--
	}
}

func (a *acks) expected() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting > 0 && time.Now().Before(a.until)
}

func (a *acks) take(fd int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fd = fd
}

func (a *acks) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	closeIfAny(a.fd)
	a.fd = -1
}

// connection returns a duplicate of the TCP connection that ssh has to its
// host, or -1, and whether it is worth looking again. Once ssh listens for its
// forwards it may have other connections, those of clients, and a duplicate of
// one of them would keep it from ending; so it is looked for only before.
func connection(pid int) (fd int, again bool) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, false
	}
	defer unix.Close(pidfd)
	fd, listening := sockets(pid, pidfd)
	if fd >= 0 && !listening {
		// Was it so all the time that we looked?
		var second int
		second, listening = sockets(pid, pidfd)
		closeIfAny(second)
	}
	if listening {
		closeIfAny(fd)
		return -1, false
	}
	return fd, fd < 0
}

// sockets looks through the sockets of a process: a duplicate of the first
// connected one, or -1, and whether there is a listening one.
func sockets(pid, pidfd int) (connected int, listening bool) {
	connected = -1
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, e := range fds {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < 3 {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			continue
		}
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && v != 0 {
			listening = true
		}
		if connected < 0 && isConnected(fd) {
			connected = fd
			continue
		}
		unix.Close(fd)
	}
	return connected, listening
}

func closeIfAny(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// isConnected is true for a TCP socket that is through with its handshake.
func isConnected(fd int) bool {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return false
	}
	switch peer.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
	default:
		return false
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == unix.BPF_TCP_ESTABLISHED
}
