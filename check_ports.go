package main

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

	"golang.org/x/sys/unix"
)

// A listener is a TCP socket of this machine that waits for clients.
type listener struct {
	at    netip.AddrPort
	uid   int
	inode string
	procs []process // that have it open; none: we may not see
}

type process struct {
	pid, parent, group int
	name               string
	began              uint64 // in ticks since the machine's boot
}

// listenersAt finds those who listen at ports, with as much about them as the
// kernel tells us (proc(5)): root sees all.
func listenersAt(ports []int) ([]listener, error) {
	var all []listener
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) && strings.HasSuffix(file, "6") {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("cannot see who listens: %w", err)
		}
		for _, l := range parseListeners(string(b)) {
			if slices.Contains(ports, int(l.at.Port())) {
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
func parseListeners(table string) []listener {
	const listening = "0A"
	var all []listener
	for l := range strings.Lines(table) {
		f := strings.Fields(l)
		if len(f) < 10 || f[3] != listening {
			continue
		}
		at, ok := parseHexAddress(f[1])
		uid, err := strconv.Atoi(f[7])
		if ok && err == nil {
			all = append(all, listener{at: at, uid: uid, inode: f[9]})
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
func findOwners(all []listener, pids string) {
	fds, _ := filepath.Glob("/proc/" + pids + "/fd/*")
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, "socket:[") {
			continue
		}
		for i := range all {
			if to != "socket:["+all[i].inode+"]" {
				continue
			}
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			if p := processOf(pid); !slices.Contains(all[i].procs, p) {
				all[i].procs = append(all[i].procs, p)
			}
		}
	}
}

func processOf(pid int) process {
	p := process{pid: pid}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	head, rest, _ := strings.Cut(string(b), ") ")
	_, p.name, _ = strings.Cut(head, "(")
	if f := strings.Fields(rest); len(f) > 19 { // proc_pid_stat(5), from the third field on
		p.parent, _ = strconv.Atoi(f[1])
		p.group, _ = strconv.Atoi(f[2])
		p.began, _ = strconv.ParseUint(f[19], 10, 64)
	}
	return p
}

// String is who it is, for people.
func (l listener) String() string {
	who := fmt.Sprintf("uid %d%s", l.uid, called(uint32(l.uid)))
	if len(l.procs) == 0 {
		return fmt.Sprintf("%s is held by a process of %s", l.at, who)
	}
	return fmt.Sprintf("%s is held by %s, pid %d, %s", l.at, l.procs[0].name, l.procs[0].pid, who)
}

// inTheWay tells whether nobody else can listen at address because of l. An
// IPv6 socket at all addresses usually takes those of IPv4 as well.
func (l listener) inTheWay(address string) bool {
	a, h := netip.MustParseAddr(address).WithZone(""), l.at.Addr()
	if a.Is4() != h.Is4() {
		return h.Is6() && h.IsUnspecified()
	}
	return a == h || a.IsUnspecified() || h.IsUnspecified()
}

// ours tells whether it is minimail, or its ssh, that listens. If we may not
// see who it is, the user has to do: a port that was bound before the drop is
// root's.
func (l listener) ours(minimail int) bool {
	if minimail == 0 {
		return false
	}
	if len(l.procs) == 0 {
		return l.uid == 0 || l.uid == os.Getuid()
	}
	return slices.ContainsFunc(l.procs, func(p process) bool { return p.pid == minimail || p.parent == minimail })
}

// nearPort is the tunnel's port, or 0 if it is a Unix socket.
func (s forwardSpec) nearPort() int {
	n, _ := strconv.Atoi(s.near)
	return n
}

// checkPorts is about our ends of the forwards. None of them is touched.
func (c *checkup) checkPorts() {
	if c.blind != nil {
		c.add("ports", doubtful, c.blind.Error(), "lsof -nP -iTCP -sTCP:LISTEN shows who listens")
		return
	}
	for _, f := range c.forwards {
		c.checkPort("port", f.port, f.binds, len(f.binds), f)
		if f.network() == "unix" {
			c.checkSocket(f.near)
		} else {
			// ssh is content with one family (facts of its listen), and whoever
			// sits on the other gets none of our mail.
			c.checkPort("tunnel", f.nearPort(), loopback, 1, f)
		}
	}
}

// checkPort says who has a port. It is broken unless at least need of the
// addresses can be had.
func (c *checkup) checkPort(name string, port int, addresses []string, need int, f forwardSpec) {
	ours, free := "", 0
	var others []listener
	for _, a := range addresses {
		taken := false
		for _, l := range c.listeners {
			switch {
			case int(l.at.Port()) != port || !l.inTheWay(a):
			case l.ours(c.pid):
				ours = fmt.Sprintf("%d is held by minimail itself, pid %d", port, c.pid)
			default:
				taken = true
				if !slices.ContainsFunc(others, func(o listener) bool { return o.inode == l.inode }) {
					others = append(others, l)
				}
			}
		}
		if !taken {
			free++
		}
	}
	switch {
	case len(others) > 0 && len(others[0].procs) > 0 && others[0].procs[0].pid == 1:
		c.add(name, doubtful, joined(others)+": is that minimail.socket?", c.evict(others[0], f, name)...)
	case len(others) > 0 && free < need:
		c.add(name, broken, joined(others), c.evict(others[0], f, name)...)
	case len(others) > 0:
		c.add(name, doubtful, joined(others)+"; ssh will use the other address", c.evict(others[0], f, name)...)
	case ours != "":
		c.add(name, well, ours)
	case name == "port" && c.pid != 0:
		c.add(name, doubtful, fmt.Sprintf("%d is free, though minimail runs, pid %d: with other settings?", port, c.pid), "minimail restart")
	case name == "port" && port < 1024 && !c.asRoot:
		c.add(name, well, fmt.Sprintf("%d is free (start asks sudo for it)", port))
	default:
		c.add(name, well, fmt.Sprintf("%d is free", port))
	}
}

func joined(all []listener) string {
	var s []string
	for _, l := range all {
		s = append(s, l.String())
	}
	return strings.Join(s, "; ")
}

// services are programs whose service has another name.
var services = map[string]string{"master": "postfix", "exim4": "exim4", "sendmail-mta": "sendmail", "smtpd": "opensmtpd", "dma": "dma"}

// otherPort is one that needs no root: 2525 instead of 25.
func otherPort(port int) int {
	if port < 1024 {
		return port + 2500
	}
	return port%60000 + 1000
}

// evict is how to get the port, or how to do without.
func (c *checkup) evict(l listener, f forwardSpec, name string) []string {
	other := fmt.Sprintf("or another port: --forward %d:%s:%s", otherPort(f.port), f.near, f.far)
	if name == "tunnel" {
		other = fmt.Sprintf("or another port for the tunnel: --forward %d:%d:%s", f.port, otherPort(f.nearPort()), f.far)
	}
	switch {
	case len(l.procs) == 0:
		return []string{fmt.Sprintf("sudo ss -ltnp 'sport = :%d' (shows who it is; then stop it)", l.at.Port()), other}
	case l.procs[0].pid == 1:
		return []string{"systemctl list-sockets (shows for which unit; any but minimail.socket is in the way)", other}
	case services[l.procs[0].name] != "":
		return []string{"sudo systemctl disable --now " + services[l.procs[0].name], other}
	case l.procs[0].name == "minimail":
		return []string{"sudo minimail stop (or give check the --pid-file of the one that runs)", other}
	}
	return []string{fmt.Sprintf("sudo kill %d", l.procs[0].pid), other}
}

// checkSocket: ssh replaces a Unix socket that is there, in a directory where
// it may.
func (c *checkup) checkSocket(path string) {
	dir := filepath.Dir(path)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		c.add("tunnel", broken, fmt.Sprintf("%s cannot make a socket in %s: %v", userName(), dir, err),
			typed("sudo", "install", "-d", "-m", "700", "-o", userName(), dir))
		return
	}
	c.add("tunnel", well, path+" can be made")
}
