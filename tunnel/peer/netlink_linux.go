package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Offsets and sizes of struct nlmsghdr (netlink(7)), inet_diag_req_v2 and
// inet_diag_msg (linux/inet_diag.h).
const (
	sockDiagByFamily = 20
	headerSize       = 16
	requestSize      = headerSize + 56
	replyState       = headerSize + 1
	replyPort        = headerSize + 4
	replyAddress     = headerSize + 8
	replyCookie      = headerSize + 44
	replyUID         = headerSize + 64
	replyInode       = headerSize + 68
	replySize        = headerSize + 72
)

// nobody is the remote end of a socket that listens.
func nobody(ipv4 bool) netip.AddrPort {
	if ipv4 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}

// diagRequest asks for the one socket that is local to us and connected to
// remote, which is of the same family.
func diagRequest(local, remote netip.AddrPort) []byte {
	ne, be := binary.NativeEndian, binary.BigEndian
	b := make([]byte, requestSize)
	ne.PutUint32(b[0:], requestSize)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	req := b[headerSize:]
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		req[0] = unix.AF_INET
	}
	ne.PutUint32(req[4:], ^uint32(0)) // in any state
	id := req[8:]
	be.PutUint16(id[0:], local.Port())
	be.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	ne.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

var errShort = errors.New("the kernel's answer about a socket is too short")

// diagReply reads a message. That there is no such socket is no error.
func diagReply(b []byte) (socket, error) {
	ne := binary.NativeEndian
	switch {
	case len(b) >= headerSize+4 && ne.Uint16(b[4:]) == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(ne.Uint32(b[headerSize:])))
		if errno == unix.ENOENT {
			return socket{}, nil
		}
		return socket{}, fmt.Errorf("the kernel does not tell a socket's owner: %w", errno)
	case len(b) < replySize:
		return socket{}, errShort
	}
	size := 16
	if b[headerSize] == unix.AF_INET {
		size = 4
	}
	addr, _ := netip.AddrFromSlice(b[replyAddress : replyAddress+size])
	return socket{
		at:     netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[replyPort:])),
		state:  int(b[replyState]),
		uid:    int(ne.Uint32(b[replyUID:])),
		inode:  uint64(ne.Uint32(b[replyInode:])),
		cookie: ne.Uint64(b[replyCookie:]),
	}, nil
}
