package peer

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// leadsUnix is about a Unix socket, which any process of ours, and whoever may
// write into its directory, may replace. Who has called listen(2) is kept with
// the connection, so that it cannot be mistaken for another one. Who may rename
// could also exchange two near ends of ours: so ours has to be where it was bound.
func (l *launch) leadsUnix(c *net.UnixConn, path string) error {
	var cred *unix.Ucred
	alive := true
	err := onSocket(c, func(fd int) (err error) {
		if cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			alive = hasPeer(fd)
		}
		return err
	})
	if err != nil {
		return cannotTell(path, err)
	}
	p := ProcessOf(int(cred.Pid))
	if isOurs(int(cred.Uid)) && alive && l.has(p) {
		if bound := c.RemoteAddr().String(); bound != path {
			return fmt.Errorf("%s has been moved there from %s", path, bound)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.listed {
			l.listed, _ = isListed(path)
		}
		return nil
	}
	who := Listener{UID: int(cred.Uid), Procs: []Process{p}}
	if !alive || p.Name == "" {
		return fmt.Errorf("%s is held by %s, to whom pid %d, which has ended, has left it, not by our ssh", path, called(who.UID), p.PID)
	}
	return l.stranger(path, who)
}

// hasPeer reports whether the process that listened is still there, so that its
// pid is not another one's by now. Before Linux 6.5 that is taken for a yes.
func hasPeer(fd int) bool {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return true
	}
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	err = unix.PidfdSendSignal(pidfd, 0, nil, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

// onSocket calls f with the descriptor of a connection.
func onSocket(c net.Conn, f func(fd int) error) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
			err = e
		}
	}
	return err
}
