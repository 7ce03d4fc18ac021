package peer

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ListenersAt finds those who listen at ports, with as much about them as the
// kernel tells us (proc(5)): root sees all.
func ListenersAt(ports []int) ([]Listener, error) {
	var all []Listener
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) && strings.HasSuffix(file, "6") {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("cannot see who listens: %w", err)
		}
		for _, l := range parseListeners(string(b)) {
			if slices.Contains(ports, int(l.At.Port())) {
				all = append(all, l)
			}
		}
	}
	if len(all) > 0 {
		findOwners(all, "[0-9]*")
	}
	return all, nil
}

// parseListeners reads /proc/net/tcp or tcp6.
func parseListeners(table string) []Listener {
	const listening = "0A"
	var all []Listener
	for l := range strings.Lines(table) {
		f := strings.Fields(l)
		if len(f) < 10 || f[3] != listening {
			continue
		}
		at, ok := parseHexAddress(f[1])
		uid, err := strconv.Atoi(f[7])
		if ok && err == nil {
			all = append(all, Listener{At: at, UID: uid, Inode: f[9]})
		}
	}
	return all
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

// findOwners looks through the processes whose pids match a pattern, as far as
// we may look into them.
func findOwners(all []Listener, pids string) {
	fds, _ := filepath.Glob("/proc/" + pids + "/fd/*")
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, "socket:[") {
			continue
		}
		for i := range all {
			if to != "socket:["+all[i].Inode+"]" {
				continue
			}
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			if p := ProcessOf(pid); !slices.Contains(all[i].Procs, p) {
				all[i].Procs = append(all[i].Procs, p)
			}
		}
	}
}

// ProcessOf is the process with that pid; its name is empty if there is none.
func ProcessOf(pid int) Process {
	p := Process{PID: pid}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	head, rest, _ := strings.Cut(string(b), ") ")
	_, p.Name, _ = strings.Cut(head, "(")
	if f := strings.Fields(rest); len(f) > 19 { // proc_pid_stat(5), from the third field on
		p.Parent, _ = strconv.Atoi(f[1])
		p.Group, _ = strconv.Atoi(f[2])
		p.Began, _ = strconv.ParseUint(f[19], 10, 64)
	}
	return p
}
