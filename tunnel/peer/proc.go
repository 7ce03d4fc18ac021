package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
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
	Ends               bool   // the kernel has begun to take it apart
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

// A Minimail is one that runs; zero: none does.
type Minimail struct {
	PID       int
	Listening []string // at which addresses, as it says; none: it cannot be asked
}

// Holders are those of all who keep others from listening at an address and port,
// and whether the minimail that runs does, or its ssh; the hidden ones may be
// minimail's or not, which nobody tells us. A socket that does not listen need not be in the way, and before
// Linux 6.8 the kernel does not even tell of it: so listening is tried for a
// moment, unless minimail runs, whose ssh could be about to do the same.
func Holders(all []Listener, address string, port int, minimail Minimail) (others, hidden []Listener, itself bool) {
	at := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
	inUse := false
	if minimail.PID == 0 {
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			l.Close()
		}
		inUse = errors.Is(err, syscall.EADDRINUSE)
	}
	for _, l := range all {
		switch {
		case int(l.At.Port()) != port || !l.inTheWay(address):
		case l.isOf(minimail):
			itself = true
		case l.mayBeOf(minimail):
			hidden = append(hidden, l)
		case !l.Deaf || minimail.PID != 0 || inUse:
			others = append(others, l)
		}
	}
	if inUse && len(others) == 0 {
		others = []Listener{{At: at, UID: Unknown, Deaf: true}}
	}
	return others, hidden, itself
}

// isOf reports whether it is minimail, or its ssh, that listens. If we may not see
// who does, minimail's word decides.
func (l Listener) isOf(m Minimail) bool {
	if len(l.Procs) == 0 {
		return slices.Contains(m.Listening, l.At.String())
	}
	return m.PID != 0 && slices.ContainsFunc(l.Procs, func(p Process) bool { return p.PID == m.PID || p.launchedBy(m.PID) })
}

// mayBeOf reports whether nobody tells us that it is not minimail's. A port that it
// has bound before it has given root up is root's.
func (l Listener) mayBeOf(m Minimail) bool {
	if m.PID == 0 || len(l.Procs) > 0 || len(m.Listening) > 0 {
		return false
	}
	uid, known := ownerOf(m.PID)
	return l.UID == 0 || !known || l.UID == uid
}

// ownerOf is the user as whom a process runs (proc_pid_status(5)).
func ownerOf(pid int) (uid int, known bool) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, ids, _ := strings.Cut(string(b), "\nUid:")
	_, err := fmt.Sscan(ids, &uid)
	return uid, err == nil
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
