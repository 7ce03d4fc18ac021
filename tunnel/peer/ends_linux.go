package peer

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ends is tunnel's Proof.Ends. ssh listens for as long as it forwards, and closes
// what listens before the connections that have come there, as the kernel does.
func (l *launch) ends(c net.Conn) (ends, ok bool) {
	if ProcessOf(l.PID).Ends || errors.Is(unix.Kill(l.PID, 0), unix.ESRCH) {
		return true, true
	}
	if _, is := c.(*net.UnixConn); is {
		return l.endsAt(c)
	}
	err := l.listens("tcp", c.RemoteAddr().String())
	nobody := errors.Is(err, syscall.ECONNREFUSED)
	return nobody, nobody || err == nil
}

// endsAt is ends of a Unix socket. That the other end is closed altogether says
// little: one that lives does that as well when both sides have said all.
func (l *launch) endsAt(c net.Conn) (ends, ok bool) {
	if !isHungUp(c) {
		return false, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	listed, err := isListed(c.RemoteAddr().String())
	ok = l.listed && err == nil
	return ok && !listed, ok
}

// isListed reports whether somebody listens at a Unix socket, as far as the
// network namespace that we are in knows (proc_pid_net(5)).
func isListed(path string) (bool, error) {
	const acceptsConnections = "00010000" // in the fourth field, Flags
	b, err := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 7 && f[3] == acceptsConnections && strings.HasSuffix(line, " "+path+"\n") {
			return true, nil
		}
	}
	return false, err
}

// isHungUp reports whether the other end of a Unix socket is closed (POLLHUP of
// poll(2)), and not only its sending side.
func isHungUp(c net.Conn) bool {
	at := []unix.PollFd{{}}
	err := onSocket(c, func(fd int) error {
		at[0].Fd = int32(fd)
		_, err := unix.Poll(at, 0)
		return err
	})
	return err != nil || at[0].Revents&unix.POLLHUP != 0
}
