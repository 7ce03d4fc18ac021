// Package peer tells who is at the other end of a connection within this
// machine, and proves for tunnel that a near end is that of the ssh which has
// been launched.
package peer

import (
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"strconv"

	"minimail/tunnel"
)

// A socket is what the kernel tells of a TCP socket. The zero value is none.
type socket struct {
	at     netip.AddrPort // its own address
	state  int            // as in linux/tcp_states.h
	uid    int
	inode  uint64 // 0: no process holds it, not yet or no more
	cookie uint64 // no other socket ever has it; 0: the kernel does not tell
}

const (
	tcpEstablished = 1
	tcpSynRecv     = 3 // of a connection that waits for a place in the queue
	tcpClosed      = 7
	tcpCloseWait   = 8
	tcpListen      = 10
)

func (s socket) listens() bool { return s.state == tcpListen }

// held reports whether a process has it as its end of a connection.
func (s socket) held() bool { return s.inode != 0 && !s.listens() }

// waits reports whether it is an end that nobody has accepted yet.
func (s socket) waits() bool {
	return s.inode == 0 && (s.state == tcpEstablished || s.state == tcpSynRecv)
}

// is reports whether both are the same one.
func (s socket) is(other socket) bool {
	return s.inode == other.inode && s.cookie == other.cookie && s.inode != 0
}

// otherEnd is the socket at the other end of a connection within this machine.
func otherEnd(c net.Conn) (socket, error) {
	local, ok1 := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return socket{}, fmt.Errorf("%s is not a TCP connection", c.RemoteAddr())
	}
	return find(plain(remote), plain(local))
}

// plain is an address as the other end, which may be of another family, has it.
func plain(a *net.TCPAddr) netip.AddrPort {
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// Gone reports whether no process holds the other end of a client's connection
// any more. Of a client on another machine, and by a kernel that does not tell,
// that is not known: it is taken for a no.
func Gone(c net.Conn) bool {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !remote.IP.IsLoopback() {
		return false
	}
	s, err := otherEnd(c)
	return err == nil && !s.held() && !s.waits()
}

// Owner is the user who holds the other end of a connection. It is not ok if
// that is not known: the client is on another machine, or has gone, or the
// kernel does not tell.
func Owner(c net.Conn) (uid int, ok bool) {
	s, err := otherEnd(c)
	return s.uid, err == nil && s.held()
}

// Unknown is the uid of somebody of whom the kernel does not tell.
const Unknown = -1

// called is a user, for people.
func called(uid int) string {
	switch {
	case uid == Unknown:
		return "somebody of whom the kernel does not tell"
	case tunnel.IsAnybody(uid):
		return "another user"
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return fmt.Sprintf("uid %d (%s)", uid, u.Username)
}
