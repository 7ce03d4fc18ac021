package peer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who is at the other end of a TCP connection within
// this machine (sock_diag(7); one socket by its addresses, some microseconds).
func peerOf(c net.Conn) (peer, error) {
	local, ok1 := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return peer{}, errors.New("not a TCP connection")
	}
	return kernel.diagnose(diagRequest(remote, local))
}

// errNoDiag is a kernel, or what takes itself for one, that has no tcp_diag.
var errNoDiag = errors.New("the kernel does not tell a socket's owner: it knows of no socket")

// listenerOf asks for the socket that has to accept a connection that we have
// made to this machine.
func listenerOf(c net.Conn) (peer, error) {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return peer{}, errors.New("not a TCP connection")
	}
	nobody := net.IPv6zero
	if remote.IP.To4() != nil {
		nobody = net.IPv4zero
	}
	return kernel.diagnose(diagRequest(remote, &net.TCPAddr{IP: nobody}))
}

// Owns says whether c leads to the ssh that we have launched, as far as can
// be told. What is found out is that it leads to another one: that of another
// minimail, say, whose near end is the same port. An ssh that a wrapper has put
// into a group of its own is none.
func Owns(c net.Conn, ssh int) error {
	for _, p := range listening(c, ssh) {
		if p.Group == ssh || p.Name != "ssh" {
			continue
		}
		parent := ProcessOf(p.Parent)
		another := parent.Name == "minimail" && parent.PID != os.Getpid()
		if another || p.Began < ProcessOf(ssh).Began {
			return fmt.Errorf("%s belongs to another ssh, pid %d: each tunnel needs a port, or a socket, of its own", c.RemoteAddr(), p.PID)
		}
	}
	return nil
}

// listening are the processes that listen where c leads to. Whether ssh is one
// of them is looked up first, for that is quick.
func listening(c net.Conn, ssh int) []Process {
	if u, ok := c.(*net.UnixConn); ok {
		return listeningUnix(u)
	}
	p, err := listenerOf(c)
	if err != nil || !p.listens {
		return nil
	}
	l := []Listener{{Inode: strconv.Itoa(int(p.inode))}}
	for _, pids := range []string{strconv.Itoa(ssh), "[0-9]*"} {
		if findOwners(l, pids); len(l[0].Procs) > 0 {
			break
		}
	}
	return l[0].Procs
}

func listeningUnix(c *net.UnixConn) []Process {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var all []Process
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			all = []Process{ProcessOf(int(cred.Pid))}
		}
	})
	return all
}

// An oracle is a socket to the kernel's sock_diag(7), which is kept open: there
// is a question or more for each client.
type oracle struct {
	mu     sync.Mutex
	open   bool
	fd     int
	number uint32 // of the last question
	reply  [1024]byte
	tells  bool // it has told of some socket

	alter func(question []byte) // the seam for tests
}

var kernel oracle

// diagnose asks one question. That a socket is not there is believed only of a
// kernel that knows of others.
func (o *oracle) diagnose(request []byte) (peer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, err := o.ask(request)
	if err != nil || o.tells {
		return p, err
	}
	if o.tells = !p.closed; o.tells {
		return p, nil
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return peer{}, fmt.Errorf("cannot try whether the kernel tells a socket's owner: %w", err)
	}
	defer l.Close()
	known, err := o.ask(diagRequest(l.Addr().(*net.TCPAddr), &net.TCPAddr{IP: net.IPv4zero}))
	if o.tells = err == nil && known.listens; !o.tells {
		return peer{}, cmp.Or(err, errNoDiag)
	}
	return p, nil
}

// ask asks anew if the answer does not come.
func (o *oracle) ask(request []byte) (p peer, err error) {
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
	return peer{}, fmt.Errorf("cannot ask the kernel for a socket's owner: %w", err)
}

func (o *oracle) exchange(request []byte) (int, error) {
	if !o.open {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
		if err != nil {
			return 0, err
		}
		o.fd, o.open = fd, true
		// Answers are there at once, or never.
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
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

// Offsets and sizes of struct nlmsghdr (netlink(7)), inet_diag_req_v2 and
// inet_diag_msg (linux/inet_diag.h).
const (
	sockDiagByFamily = 20
	tcpEstablished   = 1
	tcpSynRecv       = 3  // of a connection that waits for a place in the queue
	tcpListen        = 10 // what the kernel finds if the connection is no more
	headerSize       = 16
	requestSize      = headerSize + 56
	replyState       = headerSize + 1
	replyUID         = headerSize + 64
	replyInode       = headerSize + 68
)

// diagRequest asks for the one socket that is local to us and connected to
// remote.
func diagRequest(local, remote *net.TCPAddr) []byte {
	ne, be := binary.NativeEndian, binary.BigEndian
	b := make([]byte, requestSize)
	ne.PutUint32(b[0:], requestSize)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	req := b[headerSize:]
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	ne.PutUint32(req[4:], ^uint32(0)) // in any state
	id := req[8:]
	be.PutUint16(id[0:], uint16(local.Port))
	be.PutUint16(id[2:], uint16(remote.Port))
	if ip := local.IP.To4(); ip != nil {
		req[0] = unix.AF_INET
		copy(id[4:20], ip)
		copy(id[20:36], remote.IP.To4())
	} else {
		copy(id[4:20], local.IP)
		copy(id[20:36], remote.IP)
	}
	ne.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

func diagReply(b []byte) (peer, error) {
	ne := binary.NativeEndian
	switch {
	case len(b) >= headerSize+4 && ne.Uint16(b[4:]) == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(ne.Uint32(b[headerSize:])))
		if errno == unix.ENOENT {
			return peer{closed: true}, nil
		}
		return peer{}, fmt.Errorf("the kernel does not tell a socket's owner: %w", errno)
	case len(b) < replyInode+4:
		return peer{}, errors.New("the kernel's answer about a socket is too short")
	}
	state := b[replyState]
	held := state != tcpListen && ne.Uint32(b[replyInode:]) != 0
	return peer{uid: ne.Uint32(b[replyUID:]), inode: ne.Uint32(b[replyInode:]), held: held, listens: state == tcpListen, closed: !held && state != tcpEstablished && state != tcpSynRecv}, nil
}
