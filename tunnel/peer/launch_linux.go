package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minimail/tunnel"
)

// A launch is an ssh that has been started, and what is known of its near ends.
type launch struct {
	Process
	forwards []string // the words of its command line that ask for its near ends

	mu     sync.Mutex
	known  map[netip.AddrPort]verdict // by where they listen
	listed bool                       // a Unix socket of its is: it is in our network namespace
}

// A verdict is what has been found out about a listener.
type verdict struct {
	socket
	stranger error // nil: it is the launch's
	when     time.Time
}

// verdictHolds is for how long a stranger is taken for one without looking again.
const verdictHolds = time.Second

// Prover returns tunnel's Prove for launches of argv.
func Prover(argv []string) func(pid int) tunnel.Proof {
	var forwards []string
	for i, word := range argv[1:] {
		if argv[i] == "-L" {
			forwards = append(forwards, word)
		}
	}
	return func(pid int) tunnel.Proof {
		l := newLaunch(pid, forwards)
		proof := tunnel.Proof{Listens: l.listens, Leads: l.leads, Ends: l.ends, Holder: l.holder}
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(exe) != "ssh" {
			proof.Sweep = l.sweep // a wrapper may have detached its ssh
		}
		return proof
	}
}

func newLaunch(pid int, forwards []string) *launch {
	return &launch{Process: ProcessOf(pid), forwards: forwards, known: map[netip.AddrPort]verdict{}}
}

// listens is tunnel's Proof.Listens. Of a Unix socket that is only known once
// one is connected.
func (l *launch) listens(network, address string) error {
	if network == "unix" {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	s, err := listenerAt(at)
	switch {
	case err != nil:
		return cannotTell(at.String(), err)
	case !s.listens():
		return syscall.ECONNREFUSED
	}
	return l.judge(at, s)
}

func cannotTell(where string, err error) error {
	if isShortage(err) {
		return err // it will pass
	}
	return fmt.Errorf("cannot tell who listens at %s: %w; let TUNNEL be a Unix socket in a directory of your own", where, err)
}

// judge finds out whether a socket that listens is the launch's. If so, that is
// true for as long as there is such a socket: ssh does not give it away.
func (l *launch) judge(at netip.AddrPort, s socket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.known[at]
	if v.is(s) && (v.stranger == nil || time.Since(v.when) < verdictHolds) {
		return v.stranger
	}
	procs, err := holders([]int{l.PID}, s.inode)
	if err == nil && len(procs) == 0 {
		procs, err = holders(everybody(), s.inode)
	}
	if err != nil {
		return cannotTell(at.String(), err)
	}
	v = verdict{socket: s, when: time.Now()}
	if !isOurs(s.uid) || !slices.ContainsFunc(procs[s.inode], l.has) {
		v.stranger = l.stranger(at.String(), Listener{At: s.at, UID: s.uid, Procs: procs[s.inode]})
	}
	l.known[at] = v
	return v.stranger
}

// isKnown reports whether the launch has been found to listen at an address, and
// still does: then whatever is connected to it is connected to the launch.
func (l *launch) isKnown(at netip.AddrPort) (bool, error) {
	s, err := listenerAt(at)
	if err != nil {
		return false, cannotTell(at.String(), err)
	}
	l.mu.Lock()
	v := l.known[at]
	l.mu.Unlock()
	if v.is(s) {
		return v.stranger == nil, v.stranger
	}
	return false, nil
}

// leads is tunnel's Proof.Leads. It waits until a process has accepted c: ssh may
// take its time, for it cannot accept while it has no descriptors left.
//
// That the listener is still the one it was before c was made is not enough:
// another user, who had bound a socket to the same port before ssh did, may have
// connected it to c's (a simultaneous open, RFC 9293 3.5). So the other end has
// to be our user's. Nor is that enough: c may have been reset after it was read
// from, and ssh have accepted another connection from the same port meanwhile. So c has
// to be connected still.
func (l *launch) leads(ctx context.Context, c net.Conn, address string) error {
	if u, ok := c.(*net.UnixConn); ok {
		return l.leadsUnix(u, address)
	}
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("%s is not a TCP connection", c.RemoteAddr())
	}
	at := plain(remote)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		end, err := otherEnd(c)
		if err != nil {
			return cannotTell(at.String(), err)
		}
		if end.held() && !isOurs(end.uid) {
			return l.stranger(at.String(), Listener{At: at, UID: end.uid})
		}
		known, err := l.isKnown(at)
		switch {
		case err != nil:
			return err
		case !known, !end.held() && !end.waits(), !isConnected(c):
			return tunnel.ErrDropped
		case end.held():
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", tunnel.ErrDropped, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// isOurs reports whether a uid is ours, and nobody else's.
func isOurs(uid int) bool { return uid == os.Getuid() && !tunnel.IsAnybody(uid) }

// isConnected reports whether c still has the two addresses, so that nobody else
// can have them. The far server may have said its last word already.
func isConnected(c net.Conn) bool {
	connected := false
	_ = onSocket(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		connected = err == nil && (info.State == tcpEstablished || info.State == tcpCloseWait)
		return err
	})
	return connected
}

// stranger is the error about somebody who listens where the launch should. An
// ssh that a launch before has left behind is told to go.
func (l *launch) stranger(where string, at Listener) error {
	switch {
	case len(at.Procs) == 0 && isOurs(at.UID):
		return cannotTell(where, errors.New("a process of ours that we may not look into"))
	case len(at.Procs) == 0 || !isOurs(at.UID):
		return fmt.Errorf("%s is held by %s, not by our ssh", where, at.owner())
	case at.Procs[0].dismiss(l.Process):
		return fmt.Errorf("%s is held by %s, left behind by an earlier launch: told to go", where, at.owner())
	case at.Procs[0].Name == "ssh":
		return fmt.Errorf("%s belongs to another ssh, pid %d: each tunnel needs a port, or a socket, of its own", where, at.Procs[0].PID)
	}
	return fmt.Errorf("%s is held by %s, not by our ssh", where, at.owner())
}

// holder is tunnel's Proof.Holder.
func (l *launch) holder(end string) string {
	port, err := strconv.Atoi(end)
	if err != nil {
		return ""
	}
	all, _ := ListenersAt([]int{port})
	for _, other := range all {
		if !slices.ContainsFunc(other.Procs, l.has) {
			return other.String()
		}
	}
	return ""
}
