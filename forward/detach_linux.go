package forward

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// duplicate makes sockets of the visit's own, which the runtime's poller does
// not know.
func (v *visit) duplicate(client, server stream) (ok bool) {
	for side, c := range []stream{client, server} {
		raw, err := c.SyscallConn()
		if err == nil {
			e := raw.Control(func(fd uintptr) { v.sockets[side], err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
			err = errors.Join(err, e)
		}
		if err != nil {
			if side == ofServer {
				unix.Close(v.sockets[ofClient])
			}
			return false
		}
	}
	return true
}

// attach makes a connection of a socket again, which it takes over. If it
// cannot, the socket's peer sees a reset, no clean end.
func attach(fd int) (stream, error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return nil, err
	}
	return c.(stream), nil
}
