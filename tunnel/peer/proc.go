package peer

import (
	"fmt"
	"net/netip"
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

// InTheWay reports whether nobody else can listen at address because of l. An
// IPv6 socket at all addresses usually takes those of IPv4 as well.
func (l Listener) InTheWay(address string) bool {
	a, h := netip.MustParseAddr(address).WithZone(""), l.At.Addr()
	if a.Is4() != h.Is4() {
		return h.Is6() && h.IsUnspecified()
	}
	return a == h || a.IsUnspecified() || h.IsUnspecified()
}
