package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"minimail/tunnel"
)

// families are where ssh may listen; a machine may lack one of them.
var families = []string{"tcp4", "tcp6"}

var loopbackOf = map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}

// this is a launch of ourselves, for near ends within this process.
func this() *launch { return newLaunch(os.Getpid(), []string{"0:far:25"}) }

// nearEnd listens within this process.
func nearEnd(t *testing.T, network string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen(network, loopbackOf[network])
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accepted(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// loopbackPair is a connection within this process: the client's end, and what
// the server gets from accept.
func loopbackPair(t *testing.T, network string) (client, server *net.TCPConn) {
	t.Helper()
	l := nearEnd(t, network)
	client = dial(t, network, l.Addr().String()).(*net.TCPConn)
	return client, accepted(t, l)
}

// proves fails the test unless a launch proves that it listens, and that a
// connection leads there.
func proves(t *testing.T, l *launch, network, address string) {
	t.Helper()
	if err := l.listens(network, address); err != nil {
		t.Errorf("who listens: %v", err)
		return
	}
	if err := l.leads(t.Context(), dial(t, network, address), address); err != nil {
		t.Errorf("where it leads: %v", err)
	}
}

// refuses fails the test unless who listens is refused in such words, and so is
// a connection that was made all the same.
func refuses(t *testing.T, l *launch, network, address, re string) {
	t.Helper()
	is := func(what string, err error) {
		t.Helper()
		if err == nil || !regexp.MustCompile(re).MatchString(err.Error()) {
			t.Errorf("%s: %v, want %s", what, err, re)
		}
	}
	if network != "unix" {
		is("who listens", l.listens(network, address))
	}
	is("where it leads", l.leads(t.Context(), dial(t, network, address), address))
}

func TestANearEndOfTheLaunchIsProved(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			l := nearEnd(t, network)
			go greetAll(l)
			launch := this()
			for range 3 {
				proves(t, launch, network, l.Addr().String())
			}
		})
	}
}

func TestNobodyListensBeforeTheLaunchDoes(t *testing.T) {
	for _, network := range families {
		l := nearEnd(t, network)
		l.Close()
		if err := this().listens(network, l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestANearEndOfAnotherUserIsRefusedWithHisName(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			nearEnd(t, network)
			other := play(t, as(t, intruder, fake("server", network, loopbackOf[network])))
			refuses(t, this(), network, other.at, fmt.Sprintf(`^\Q%s\E is held by (server, pid %d, )?uid %d \(%s\), not by our ssh$`, other.at, other.pid(), uidOf(t, intruder), intruder))
		})
	}
}

func TestANearEndOfAnotherProcessOfOursIsRefusedWithItsName(t *testing.T) {
	launched := play(t, fake("ssh", "-L", "0:far:25"))
	l := newLaunch(launched.pid(), []string{"0:far:25"})
	proves(t, l, "tcp", launched.at)
	other := play(t, fake("server", "tcp", "127.0.0.1:0"))
	refuses(t, l, "tcp", other.at, fmt.Sprintf(`is held by server, pid %d, uid \d+ \(.*\), not by our ssh`, other.pid()))
	ssh := play(t, fake("ssh", "-L", "0:far:25"))
	refuses(t, l, "tcp", ssh.at, fmt.Sprintf("belongs to another ssh, pid %d: each tunnel needs a port", ssh.pid()))
}

// TestWhatRunsAsAnotherUserIsNotOurs, though we have launched it, and, as root, may
// look into it.
func TestWhatRunsAsAnotherUserIsNotOurs(t *testing.T) {
	dir, err := os.MkdirTemp("", "near-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for network, near := range map[string]string{"tcp": "0", "unix": dir + "/near"} {
		p := play(t, as(t, intruder, fake("ssh", "-L", near+":far:25")))
		refuses(t, newLaunch(p.pid(), []string{near + ":far:25"}), network, p.at, `is held by .*, not by our ssh`)
	}
}

func TestAStrangerIsLookedAtAgainAfterAWhile(t *testing.T) {
	l, launch := nearEnd(t, "tcp4"), this()
	at := plain(l.Addr().(*net.TCPAddr))
	s, err := listenerAt(at)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(ago time.Duration) error {
		launch.known[at] = verdict{socket: s, stranger: errors.New("a stranger"), when: time.Now().Add(-ago)}
		return launch.listens("tcp4", at.String())
	}
	if err := seen(-time.Minute); err == nil { // a machine may take a second to ask
		t.Error("looked at again at once")
	}
	if err := seen(verdictHolds); err != nil {
		t.Errorf("not looked at again: %v", err)
	}
}

// A verdict about a listener is not one about who listens there next.
func TestWhoTakesThePortOfADeadSSHIsAStranger(t *testing.T) {
	launched := play(t, fake("ssh", "-L", "0:far:25"))
	l := newLaunch(launched.pid(), []string{"0:far:25"})
	proves(t, l, "tcp", launched.at)
	launched.end()
	other := play(t, fake("server", "tcp", launched.at))
	if err := l.leads(t.Context(), dial(t, "tcp", other.at), other.at); !errors.Is(err, tunnel.ErrDropped) {
		t.Errorf("a connection to who came after: %v", err)
	}
	refuses(t, l, "tcp", other.at, "is held by server")
	other.end()
	launched = play(t, fake("ssh", "-L", "0:far:25"))
	proves(t, newLaunch(launched.pid(), []string{"0:far:25"}), "tcp", launched.at)
}
