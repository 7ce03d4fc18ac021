package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// A Listener is a TCP socket of this machine that waits for clients, or keeps
// others from doing so.
type Listener struct {
	At    netip.AddrPort
	UID   int
	Inode uint64
	Procs []Process // that have it open; none: we may not see
	Deaf  bool      // it has the address, and does not listen
}

// A Process is one of this machine, as far as proc(5) tells.
type Process struct {
	PID, Parent, Group int
	Name               string // without control characters; empty: there is none
	Began              uint64 // in ticks since the machine's boot
}

// String is who it is, for people.
func (l Listener) String() string {
	return fmt.Sprintf("%s is held by %s", l.At, l.owner())
}

func (l Listener) owner() string {
	who := called(l.UID)
	if len(l.Procs) > 0 {
		who = fmt.Sprintf("%s, pid %d, %s", l.Procs[0].Name, l.Procs[0].PID, who)
	}
	if l.Deaf {
		who += ", and nobody listens there"
	}
	return who
}

// Holders are those of all who keep others from listening at an address and port,
// and whether the minimail with that pid (0: none runs) does, or its ssh. A socket
// that does not listen need not be in the way, and before Linux 6.8 the kernel does
// not even tell of it: so listening is tried for a moment, unless minimail runs,
// whose ssh could be about to do the same.
func Holders(all []Listener, address string, port, minimail int) (others []Listener, itself bool) {
	at := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
	inUse := false
	if minimail == 0 {
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			l.Close()
		}
		inUse = errors.Is(err, syscall.EADDRINUSE)
	}
	for _, l := range all {
		switch {
		case int(l.At.Port()) != port || !l.inTheWay(address):
		case minimail != 0 && l.isOf(minimail):
			itself = true
		case !l.Deaf || minimail != 0 || inUse:
			others = append(others, l)
		}
	}
	if inUse && len(others) == 0 {
		others = []Listener{{At: at, UID: Unknown, Deaf: true}}
	}
	return others, itself
}

// isOf reports whether it is minimail, or its ssh, that listens. If we may not
// see who it is, the user has to do: a port that was bound before the drop is
// root's.
func (l Listener) isOf(minimail int) bool {
	if len(l.Procs) == 0 {
		return l.UID == 0 || l.UID == os.Getuid()
	}
	return slices.ContainsFunc(l.Procs, func(p Process) bool { return p.PID == minimail || p.launchedBy(minimail) })
}

// inTheWay reports whether nobody else can listen at address because of l. An
// IPv6 socket at all addresses usually takes those of IPv4 as well.
func (l Listener) inTheWay(address string) bool {
	a, h := netip.MustParseAddr(address).WithZone(""), l.At.Addr()
	if a.Is4() != h.Is4() {
		return h.Is6() && h.IsUnspecified()
	}
	return a == h || a.IsUnspecified() || h.IsUnspecified()
}
