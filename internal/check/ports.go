package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/tunnel/peer"
)

// isOurs reports whether it is minimail, or its ssh, that listens. If we may not
// see who it is, the user has to do: a port that was bound before the drop is
// root's.
func isOurs(l peer.Listener, minimail int) bool {
	if minimail == 0 {
		return false
	}
	if len(l.Procs) == 0 {
		return l.UID == 0 || l.UID == os.Getuid()
	}
	return slices.ContainsFunc(l.Procs, func(p peer.Process) bool { return p.PID == minimail || p.LaunchedBy(minimail) })
}

// checkPorts is about our ends of the forwards. None of them is touched.
func (c *checkup) checkPorts() {
	if c.blind != nil {
		c.add("ports", doubtful, c.blind.Error(), "lsof -nP -iTCP -sTCP:LISTEN # shows who listens")
		return
	}
	for _, f := range c.Forwards {
		c.checkPort("port", f.Port, f.Binds, len(f.Binds), f)
		if f.Network() == "unix" {
			c.checkSocket(f.Near)
		} else {
			// ssh is content with one family (facts of its listen), and whoever
			// sits on the other gets none of our mail.
			c.checkPort("tunnel", f.NearPort(), forward.Loopback, 1, f)
		}
	}
}

// checkPort says who has a port. It is broken unless at least need of the
// addresses can be had.
func (c *checkup) checkPort(name string, port int, addresses []string, need int, f forward.Spec) {
	ours, free := "", 0
	var others []peer.Listener
	for _, a := range addresses {
		who, itself := c.holdersOf(a, port)
		if itself {
			ours = fmt.Sprintf("%d is held by minimail itself, pid %d", port, c.pid)
		}
		if len(who) == 0 {
			free++
		}
		for _, l := range who {
			if !slices.ContainsFunc(others, func(o peer.Listener) bool { return o.At == l.At && o.Inode == l.Inode }) {
				others = append(others, l)
			}
		}
	}
	switch {
	case len(others) > 0 && len(others[0].Procs) > 0 && others[0].Procs[0].PID == 1:
		c.add(name, doubtful, joined(others)+": is that minimail.socket?", c.evict(others[0], f, name)...)
	case len(others) > 0 && free < need:
		c.add(name, broken, joined(others), c.evict(others[0], f, name)...)
	case len(others) > 0:
		c.add(name, doubtful, joined(others)+"; ssh will use the other address", c.evict(others[0], f, name)...)
	case ours != "":
		c.add(name, well, ours)
	case name == "port" && c.pid != 0:
		c.add(name, doubtful, fmt.Sprintf("%d is free, though minimail runs, pid %d: with other settings?", port, c.pid), c.restart())
	case name == "port" && port < 1024 && !c.asRoot:
		c.add(name, well, fmt.Sprintf("%d is free (start asks sudo for it)", port))
	default:
		c.add(name, well, fmt.Sprintf("%d is free", port))
	}
}

// restart has the one that runs do what is checked here.
func (c *checkup) restart() string {
	next := c.Settings
	next.Word = "restart"
	command := fail.Quote(append([]string{"minimail"}, next.Argv()...)...)
	command += " # without options it keeps those that it was started with; stop and start do not"
	return command
}

// holdersOf are those who keep us, or ssh, from listening at an address, and
// whether we do ourselves. A socket that does not listen need not be in the way,
// and before Linux 6.8 the kernel does not even tell of it: so listening is tried,
// unless minimail runs, whose ssh could be about to do the same.
func (c *checkup) holdersOf(address string, port int) (others []peer.Listener, ourselves bool) {
	at := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
	tried := c.pid == 0
	inUse := tried && isInUse(at)
	for _, l := range c.listeners {
		switch {
		case int(l.At.Port()) != port || !l.InTheWay(address):
		case isOurs(l, c.pid):
			ourselves = true
		case !l.Deaf || !tried || inUse:
			others = append(others, l)
		}
	}
	if inUse && len(others) == 0 {
		others = append(others, peer.Listener{At: at, UID: peer.Unknown, Deaf: true})
	}
	return others, ourselves
}

// isInUse tries to listen for a moment, as ssh does.
func isInUse(at netip.AddrPort) bool {
	l, err := net.Listen("tcp", at.String())
	if err == nil {
		l.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

func joined(all []peer.Listener) string {
	var s []string
	for _, l := range all {
		s = append(s, l.String())
	}
	return strings.Join(s, "; ")
}

// services are programs whose service has another name.
var services = map[string]string{"master": "postfix", "exim4": "exim4", "sendmail-mta": "sendmail", "smtpd": "opensmtpd", "dma": "dma"}

// evict is how to get the port, or how to do without.
func (c *checkup) evict(l peer.Listener, f forward.Spec, name string) []string {
	other := fmt.Sprintf("minimail --forward %d:%s:%s # another port", forward.OtherPort(f.Port), f.Near, f.Far)
	if name == "tunnel" {
		other = fmt.Sprintf("minimail --forward %d:%d:%s # another port for the tunnel", f.Port, forward.OtherPort(f.NearPort()), f.Far)
	}
	switch {
	case len(l.Procs) == 0:
		return []string{fmt.Sprintf("sudo ss -ltnp 'sport = :%d' # shows who it is; then stop it", l.At.Port()), other}
	case l.Procs[0].PID == 1:
		return []string{"systemctl list-sockets # shows for which unit; any but minimail.socket is in the way", other}
	case services[l.Procs[0].Name] != "":
		return []string{"sudo systemctl disable --now " + services[l.Procs[0].Name], other}
	case l.Procs[0].Name == "minimail":
		return []string{"sudo minimail stop # or give check the --pid-file of the one that runs", other}
	}
	return []string{fmt.Sprintf("sudo kill %d", l.Procs[0].PID), other}
}

// checkSocket: ssh replaces a Unix socket that is there, in a directory where
// it may, but nothing else.
func (c *checkup) checkSocket(path string) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		c.add("tunnel", broken, path+" is there, and is no socket", fail.Quote("ls", "-ld", path)+" # another name for TUNNEL, or remove it")
		return
	}
	dir := filepath.Dir(path)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		c.add("tunnel", broken, fmt.Sprintf("%s cannot make a socket in %s: %v", daemon.UserName(), dir, err),
			fail.Quote("sudo", "install", "-d", "-m", "700", "-o", daemon.UserName(), dir))
		return
	}
	if why, mend := daemon.IsShared(path, os.Getuid()); why != "" {
		c.add("tunnel", doubtful, fmt.Sprintf("%s: they can keep mail from leaving by a socket of their own in place of %s", why, path), mend)
		return
	}
	c.add("tunnel", well, path+" can be made")
}
