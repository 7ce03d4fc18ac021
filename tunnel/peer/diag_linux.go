package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// An oracle is a socket to the kernel's sock_diag(7), which is kept open: there
// are two questions or more for each client, some microseconds each.
type oracle struct {
	mu     sync.Mutex // guards all below, and is held while the kernel answers
	open   bool
	fd     int
	number uint32 // of the last question
	reply  [1024]byte
	tells  bool // it has told of some socket
	deaf   bool // it never will

	alter func(question []byte) // the seam for tests
}

var kernel oracle

// errNoDiag is a kernel, or what takes itself for one, that has no tcp_diag.
var errNoDiag = errors.New("the kernel does not tell a socket's owner: it knows of no socket")

// find asks for one socket by its addresses. If nobody is connected to remote
// there, the kernel finds who listens. That there is none at all is believed
// only of a kernel that knows of others.
func (o *oracle) find(local, remote netip.AddrPort) (socket, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deaf {
		return socket{}, errNoDiag
	}
	s, err := o.ask(diagRequest(local, remote))
	if err == nil && s.state == 0 && !o.tells {
		err = o.try()
	}
	o.tells = o.tells || err == nil
	o.deaf = errors.Is(err, errNoDiag) || isForbidden(err)
	return s, err
}

// try asks for a socket that is there.
func (o *oracle) try() error {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("cannot try whether the kernel tells a socket's owner: %w", err)
	}
	defer l.Close()
	s, err := o.ask(diagRequest(l.Addr().(*net.TCPAddr).AddrPort(), nobody(true)))
	if err == nil && !s.listens() {
		err = errNoDiag
	}
	return err
}

// isForbidden reports whether somebody has decided that we may not ask:
// seccomp(2), systemd's RestrictAddressFamilies, a container.
func isForbidden(err error) bool {
	return slices.ContainsFunc([]error{unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.EPERM, unix.EACCES}, func(e error) bool {
		return errors.Is(err, e)
	})
}

// ask asks anew if the answer does not come.
func (o *oracle) ask(request []byte) (s socket, err error) {
	for range 3 {
		var n int
		if n, err = o.exchange(request); err == nil {
			return diagReply(o.reply[:n])
		}
		if o.open { // the answer may come late, and must not be taken for another one
			unix.Close(o.fd)
			o.open = false
		}
	}
	return socket{}, fmt.Errorf("cannot ask the kernel for a socket's owner: %w", err)
}

func (o *oracle) exchange(request []byte) (int, error) {
	if !o.open {
		fd, err := diagSocket()
		if err != nil {
			return 0, err
		}
		o.fd, o.open = fd, true
	}
	o.number++
	binary.NativeEndian.PutUint32(request[8:], o.number)
	if o.alter != nil {
		o.alter(request)
	}
	if err := unix.Sendto(o.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	n, _, err := unix.Recvfrom(o.fd, o.reply[:], 0)
	if err == nil && (n < headerSize || binary.NativeEndian.Uint32(o.reply[8:]) != o.number) {
		err = errors.New("the answer is to another question")
	}
	return n, err
}

func diagSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err == nil {
		// Answers are there at once, or never.
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	}
	return fd, err
}

// dump is all sockets that have a port of ours, also those which are only bound
// to it, of which no other question and no table tells.
func dump(port int) ([]socket, error) {
	fd, err := diagSocket()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []socket
	for _, any4 := range []bool{true, false} {
		at := netip.AddrPortFrom(nobody(any4).Addr(), uint16(port))
		request := diagRequest(at, nobody(any4))
		binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, err
		}
		some, err := dumped(fd)
		if err != nil && any4 {
			return nil, err // a machine may be without IPv6
		}
		all = append(all, some...)
	}
	return all, nil
}

// dumped is all of the answer to a request for a dump.
func dumped(fd int) (all []socket, err error) {
	b := make([]byte, 1<<16)
	for done := false; !done; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var some []socket
		if some, done, err = dumpReplies(b[:n]); err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// dumpReplies reads the messages of one answer. done: it was the last.
func dumpReplies(b []byte) (all []socket, done bool, err error) {
	for len(b) >= headerSize {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerSize || size > len(b) {
			return nil, false, errShort
		}
		kind := binary.NativeEndian.Uint16(b[4:])
		if kind == unix.NLMSG_DONE {
			return all, true, nil
		}
		s, err := diagReply(b[:size])
		if err != nil || kind == unix.NLMSG_ERROR {
			return all, true, err
		}
		all = append(all, s)
		b = b[min((size+3)&^3, len(b)):]
	}
	return all, false, nil
}
