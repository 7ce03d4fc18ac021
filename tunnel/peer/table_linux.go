package peer

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// tables are where a kernel that has no sock_diag(7), or does not let us use
// it, tells of its TCP sockets; the second is that of IPv6.
var tables = []string{"/proc/net/tcp", "/proc/net/tcp6"}

// inTables are the sockets for which match is true. Reading takes time in
// proportion to all sockets of the machine, and one that comes or goes meanwhile
// may be missed.
func inTables(match func(s socket, remote netip.AddrPort) bool) ([]socket, error) {
	var all []socket
	for i, table := range tables {
		b, err := os.ReadFile(table)
		if i > 0 && os.IsNotExist(err) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if s, remote, ok := parseRow(line); ok && match(s, remote) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// parseRow reads a line of a table. It is not ok if it is the heading.
func parseRow(line string) (s socket, remote netip.AddrPort, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return socket{}, remote, false
	}
	at, ok1 := parseHexAddress(f[1])
	remote, ok2 := parseHexAddress(f[2])
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	uid, err2 := strconv.ParseUint(f[7], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return socket{}, remote, false
	}
	return socket{at: at, state: int(state), uid: int(uid), inode: inode}, remote, true
}

// parseHexAddress reads ADDRESS:PORT: words of 32 bits in the machine's order.
func parseHexAddress(s string) (netip.AddrPort, bool) {
	a, p, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(a)
	port, portErr := strconv.ParseUint(p, 16, 16)
	if err != nil || portErr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok
}

// findInTables looks for the socket at local that is connected to remote. One
// that is not there is looked for twice: it may have been missed.
func findInTables(local, remote netip.AddrPort) (socket, error) {
	for range 2 {
		found, err := inTables(func(s socket, r netip.AddrPort) bool { return s.at == local && r == remote })
		if err != nil || len(found) > 0 {
			return append(found, socket{})[0], err
		}
	}
	return socket{}, nil
}

// listenerInTables looks for the socket that accepts connections to at: as the
// kernel does, the one with the closest address.
func listenerInTables(at netip.AddrPort) (socket, error) {
	var best socket
	_, err := inTables(func(s socket, _ netip.AddrPort) bool {
		if s.listens() && s.at.Port() == at.Port() && closeness(s, at) > closeness(best, at) {
			best = s
		}
		return false
	})
	return best, err
}

func closeness(s socket, at netip.AddrPort) int {
	a := s.at.Addr()
	switch {
	case a == at.Addr():
		return 3
	case a.IsUnspecified() && a.Is4() == at.Addr().Is4():
		return 2
	case a.IsUnspecified() && a.Is6():
		return 1
	}
	return 0
}
