package tunnel

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A wire is what ssh talks to its host over: a TCP connection of its own, or of
// a process that it has started (a ProxyCommand, the ssh of a ProxyJump). Two
// options of tcp(7) make it faster for small messages, of which a login, a
// greeting and a mail consist:
//
//   - TCP_NODELAY. ssh sends two messages in a row (NEWKEYS, and its request for
//     a service) before it sets that by itself, and Nagle's algorithm keeps the
//     second until the host acknowledges the first: a round trip, or more.
//   - TCP_QUICKACK. sshd, with Nagle's algorithm on, does the same with a
//     channel's confirmation and the mail server's greeting, and our kernel
//     takes up to 40 ms to acknowledge. The option does not stay, so it is set
//     again and again while somebody waits for a first byte.
//
// The sockets are ssh's; its parent may set their options through a duplicate
// (pidfd_getfd(2), Linux 5.6). Which of them leads to the host nobody knows
// before ssh says so: libc may have its own, to a name server or for LDAP. So
// until then all TCP sockets are hurried, from the moment they are there, for
// which of them it is makes no difference to the others; and from then on the
// one that ssh has named, or, where a helper has it, those of the helpers. No
// duplicate is kept: a connection ends when its owner ends it. Where the kernel
// does not allow any of this, everything works as without.
type wire struct {
	mu      sync.Mutex
	sockets []socket
	waiting int       // clients that wait for a first byte
	since   time.Time // when the last one of them has begun to
	wake    chan struct{}

	// The seams for tests: find returns the sockets of a process and of those
	// that it has started, hurried, and whether it is worth looking again; quick
	// has what has come to one of them acknowledged.
	find  func(pid int) ([]socket, bool)
	quick func(fd int) error
}

// A socket is a TCP socket of another process, by the number that it has there.
type socket struct {
	pid, number int
	peer        string // as ssh writes it: [ADDRESS]:PORT
}

const (
	// lookEvery is short against a login, of which the first half passes before
	// ssh's two messages in a row, and long against the cost, about 25 µs.
	lookEvery = 5 * time.Millisecond
	// ackEvery is short against 40 ms and long against the cost, about 3 µs.
	ackEvery = time.Millisecond
	// ackFor bounds the wait for a first byte, and with it the wake-ups. What has
	// to be acknowledged comes after a round trip, and few are as long as this.
	ackFor = time.Second
	// execTakes is after how long it is tried again whether the kernel lets us at
	// ssh's sockets, and then more and more rarely: in the middle of execve(2),
	// which may last on a busy machine, ssh still has the rights of a process that
	// has given up root.
	execTakes = 10 * time.Millisecond
	// maxFamily bounds the processes that are looked through.
	maxFamily = 16
)

func newWire() *wire { return &wire{wake: make(chan struct{}, 1), find: find, quick: quick} }

// follow serves one ssh, from its launch until gone is closed.
func (w *wire) follow(pid int, l *launch, gone <-chan struct{}) {
	defer w.take(nil)
	w.launching(pid, l, gone)
	for {
		select {
		case <-w.wake:
		case <-gone:
			return
		}
		for waited := w.waited(); waited < ackFor; waited = w.waited() {
			w.now()
			select {
			case <-time.After(max(ackEvery, waited/64)):
			case <-gone:
				return
			}
		}
	}
}

// launching hurries the login, until somebody has been answered.
func (w *wire) launching(pid int, l *launch, gone <-chan struct{}) {
	began := time.Now()
	pause := func() <-chan time.Time { return time.After(max(lookEvery, time.Since(began)/32)) }
	for !isClosed(l.letIn) {
		found, again := w.find(pid)
		wait := pause()
		if w.take(found); !again {
			wait = time.After(max(execTakes, time.Since(began)))
		}
		select {
		case <-wait:
		case <-l.letIn:
		case <-l.answered:
			if !isClosed(l.letIn) {
				return // ssh does not say so, with LogLevel=QUIET
			}
		case <-gone:
			return
		}
	}
	found, _ := w.find(pid)
	w.take(only(found, l.host))
	for {
		select {
		case <-pause():
			w.now()
		case <-l.answered:
			return
		case <-gone:
			return
		}
	}
}

// only returns those that are connected to host, or anywhere if that is empty;
// or, if none is, all.
func only(all []socket, host string) []socket {
	is := func(s socket) bool { return s.peer != "" && (s.peer == host || host == "") }
	if slices.ContainsFunc(all, is) {
		return slices.DeleteFunc(all, func(s socket) bool { return !is(s) })
	}
	return all
}

// now has what has come acknowledged.
func (w *wire) now() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sockets {
		_ = s.do(w.quick)
	}
}

// expect says that a client waits for its first byte, until the function that
// it returns is called.
func (w *wire) expect() (came func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sockets) == 0 {
		return func() {}
	}
	w.waiting++
	w.since = time.Now()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waiting--
	}
}

// waited is for how long all who wait have waited; ackFor if nobody does.
func (w *wire) waited() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == 0 {
		return ackFor
	}
	return time.Since(w.since)
}

func (w *wire) take(s []socket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sockets = s
}

// find hurries the TCP sockets of ssh and of its helpers, and returns them, and
// whether it is worth looking again: not if ssh has gone, or if the kernel does
// not let us at what it has.
func find(ssh int) (all []socket, again bool) {
	family := []int{ssh}
	for i := 0; i < min(len(family), maxFamily); i++ {
		here, err := socketsOf(family[i])
		all = append(all, here...)
		again = again || i == 0 && err == nil
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", family[i])) // proc(5)
		for _, s := range strings.Fields(string(children)) {
			pid, _ := strconv.Atoi(s)
			family = append(family, pid)
		}
	}
	return all, again
}

// socketsOf hurries the TCP sockets of a process, and returns them.
func socketsOf(pid int) (all []socket, err error) {
	numbers, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	for _, e := range numbers {
		s := socket{pid: pid}
		if s.number, _ = strconv.Atoi(e.Name()); s.number < 3 {
			continue
		}
		switch err := s.do(s.hurry); err {
		case nil:
			all = append(all, s)
		case unix.EPERM, unix.ENOSYS:
			return all, err
		}
	}
	return all, nil
}

// do calls f with a duplicate of the socket, which is closed again.
func (s *socket) do(f func(fd int) error) error {
	pidfd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, s.number, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// hurry sets both options, which only TCP sockets have, and learns the peer.
func (s *socket) hurry(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	switch to, _ := unix.Getpeername(fd); to := to.(type) {
	case *unix.SockaddrInet4:
		s.peer = fmt.Sprintf("[%s]:%d", netip.AddrFrom4(to.Addr), to.Port)
	case *unix.SockaddrInet6:
		s.peer = fmt.Sprintf("[%s]:%d", netip.AddrFrom16(to.Addr).Unmap(), to.Port)
	}
	return quick(fd)
}

func quick(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
