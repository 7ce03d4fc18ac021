package peer

import (
	"fmt"
	"net/netip"
)

// A Listener is a TCP socket of this machine that waits for clients.
type Listener struct {
	At    netip.AddrPort
	UID   int
	Inode string
	Procs []Process // that have it open; none: we may not see
}

// A Process is one of this machine, as far as proc(5) tells.
type Process struct {
	PID, Parent, Group int
	Name               string
	Began              uint64 // in ticks since the machine's boot
}

// String is who it is, for people.
func (l Listener) String() string {
	who := fmt.Sprintf("uid %d%s", l.UID, called(uint32(l.UID)))
	if len(l.Procs) == 0 {
		return fmt.Sprintf("%s is held by a process of %s", l.At, who)
	}
	return fmt.Sprintf("%s is held by %s, pid %d, %s", l.At, l.Procs[0].Name, l.Procs[0].PID, who)
}

// InTheWay tells whether nobody else can listen at address because of l. An
// IPv6 socket at all addresses usually takes those of IPv4 as well.
func (l Listener) InTheWay(address string) bool {
	a, h := netip.MustParseAddr(address).WithZone(""), l.At.Addr()
	if a.Is4() != h.Is4() {
		return h.Is6() && h.IsUnspecified()
	}
	return a == h || a.IsUnspecified() || h.IsUnspecified()
}
