package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	if err := seen(0); err == nil {
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

func TestAConnectionThatIsNotYetAcceptedIsWaitedFor(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			l, launch := nearEnd(t, network), this()
			if err := launch.listens(network, l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			client := dial(t, network, l.Addr().String())
			if s, err := otherEnd(client); err != nil || !s.waits() {
				t.Fatalf("before it is accepted: %+v, %v", s, err)
			}
			leads := make(chan error)
			go func() { leads <- launch.leads(t.Context(), client, l.Addr().String()) }()
			select {
			case err := <-leads:
				t.Fatalf("not waited for: %v", err)
			default:
			}
			accepted(t, l)
			if err := <-leads; err != nil {
				t.Error(err)
			}
		})
	}
}

// ssh cannot accept while it has no descriptors left; but it may end.
func TestAConnectionThatNobodyAcceptsIsWaitedForUntilItIsCalledOffOrSSHEnds(t *testing.T) {
	l, launch := nearEnd(t, "tcp4"), this()
	if err := launch.listens("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the client has left"))
	if err := launch.leads(ctx, dial(t, "tcp4", l.Addr().String()), l.Addr().String()); !errors.Is(err, tunnel.ErrDropped) || !strings.Contains(err.Error(), "the client has left") {
		t.Errorf("when it is called off: %v", err)
	}
	client := dial(t, "tcp4", l.Addr().String())
	l.Close()
	if err := launch.leads(t.Context(), client, l.Addr().String()); !errors.Is(err, tunnel.ErrDropped) {
		t.Errorf("when the listener has gone: %v", err)
	}
}

func TestAConnectionThatWasClosedLeadsNowhere(t *testing.T) {
	for _, network := range families {
		for _, linger := range []int{-1, 0} {
			l, launch := nearEnd(t, network), this()
			if err := launch.listens(network, l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			client := dial(t, network, l.Addr().String())
			server := accepted(t, l)
			_ = server.SetLinger(linger)
			server.Close()
			if err := launch.leads(t.Context(), client, l.Addr().String()); !errors.Is(err, tunnel.ErrDropped) {
				t.Errorf("%s, linger %d: %v", network, linger, err)
			}
		}
	}
}

// A far server may say no and hang up before we look.
func TestAConnectionWithItsLastWordSaidLeadsThere(t *testing.T) {
	l, launch := nearEnd(t, "tcp4"), this()
	if err := launch.listens("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	client := dial(t, "tcp4", l.Addr().String())
	if err := accepted(t, l).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := launch.leads(t.Context(), client, l.Addr().String()); err != nil {
		t.Error(err)
	}
}

// TestADeadConnectionIsNotTakenForTheNextOneFromItsPort: whoever was at the other
// end may have greeted and reset it, and then have connected from the same port.
func TestADeadConnectionIsNotTakenForTheNextOneFromItsPort(t *testing.T) {
	l, launch := nearEnd(t, "tcp4"), this()
	at := l.Addr().String()
	if err := launch.listens("tcp4", at); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		client := dial(t, "tcp4", at)
		server := accepted(t, l)
		_, _ = server.Write([]byte("220 evil\r\n"))
		_ = server.SetLinger(0)
		server.Close()
		for isConnected(client) {
			runtime.Gosched() // until the reset is there
		}
		again := net.Dialer{LocalAddr: client.LocalAddr(), Control: reuse(unix.SO_REUSEADDR)}
		c, err := again.Dial("tcp4", at)
		if err != nil {
			continue // somebody else has got the port
		}
		defer c.Close()
		accepted(t, l)
		if s, err := otherEnd(client); err != nil || !s.held() || !isOurs(s.uid) {
			t.Fatalf("the port is not as the dead connection had it: %+v, %v", s, err)
		}
		if err := launch.leads(t.Context(), client, at); !errors.Is(err, tunnel.ErrDropped) {
			t.Errorf("a connection that was reset: %v", err)
		}
		return
	}
	t.Error("the port was never to be had")
}

func reuse(options ...int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			for _, o := range options {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o, 1)
			}
		})
	}
}

// TestAnotherUsersSimultaneousOpenIsRefused: he had bound a socket to the near
// end's port before the launch did, and connects it to the very port that a
// connection of ours comes from (RFC 9293 3.5). The listener is the launch's all
// the time.
func TestAnotherUsersSimultaneousOpenIsRefused(t *testing.T) {
	l := nearEnd(t, "tcp4")
	at := l.Addr().(*net.TCPAddr)
	l.Close()
	for range 50 {
		from := nearEnd(t, "tcp4")
		port := from.Addr().(*net.TCPAddr).Port
		from.Close()
		evil := play(t, as(t, intruder, fake("opener", fmt.Sprint(at.Port), fmt.Sprint(port))))
		if evil.at != "sent" {
			evil.end()
			continue
		}
		near, err := net.Listen("tcp4", at.String())
		if err != nil {
			t.Fatal(err)
		}
		go greetAll(near)
		launch := this()
		if err := launch.listens("tcp4", at.String()); err != nil {
			t.Fatal(err)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: at.IP, Port: port}, Control: reuse(unix.SO_REUSEADDR)}
		c, err := d.Dial("tcp4", at.String())
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		_, _ = io.ReadFull(c, b)
		if string(b) == "220 evil" {
			err := launch.leads(t.Context(), c, at.String())
			if want := fmt.Sprintf("uid %d (%s), not by our ssh", uidOf(t, intruder), intruder); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
			return
		}
		t.Logf("greeted with %q: once more", b)
		c.Close()
		near.Close()
		evil.end()
	}
	t.Error("the other user never managed to connect")
}

func init() { roles["opener"] = openTowards }

// openTowards connects from a port, at which somebody else listens meanwhile, to
// another one, from where he connects.
func openTowards(args []string) int {
	from, _ := strconv.Atoi(args[0])
	to, _ := strconv.Atoi(args[1])
	loopback := [4]byte{127, 0, 0, 1}
	socket := func(port int) int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback}))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return fd
	}
	// A queue that is full drops the SYN instead of refusing it.
	queue := socket(to)
	_ = unix.Listen(queue, 0)
	full := []int{queue}
	for range 2 {
		fd := socket(0)
		_ = unix.Connect(fd, &unix.SockaddrInet4{Port: to, Addr: loopback})
		full = append(full, fd)
	}
	open := socket(from)
	if err := unix.Connect(open, &unix.SockaddrInet4{Port: to, Addr: loopback}); !errors.Is(err, unix.EINPROGRESS) {
		fmt.Println(err)
		return 1
	}
	for _, fd := range full {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
	fmt.Println("sent")
	_ = unix.SetNonblock(open, false)
	poll := []unix.PollFd{{Fd: int32(open), Events: unix.POLLOUT}}
	if _, err := unix.Poll(poll, 10_000); err == nil {
		_, _ = unix.Write(open, []byte("220 evil\r\n"))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// TestWhoOnlyBoundAPortIsTold, and so is who listens; but not the launch itself.
func TestWhoOnlyBoundAPortIsTold(t *testing.T) {
	l := nearEnd(t, "tcp4")
	at := l.Addr().(*net.TCPAddr)
	end := fmt.Sprint(at.Port)
	launch := this()
	if got := launch.holder(end); got != "" {
		t.Errorf("the launch is in its own way: %s", got)
	}
	l.Close()
	if got := launch.holder(end); got != "" {
		t.Errorf("nobody is there: %s", got)
	}
	if got := launch.holder("/a/socket"); got != "" {
		t.Errorf("a Unix socket's: %s", got)
	}
	other := play(t, as(t, intruder, fake("binder", end)))
	who := fmt.Sprintf("binder, pid %d, uid %d (%s)", other.pid(), uidOf(t, intruder), intruder)
	if os.Getuid() != 0 {
		who = fmt.Sprintf("uid %d (%s)", uidOf(t, intruder), intruder)
	}
	all, err := socketsAt(at.Port)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skip("this kernel does not tell of sockets that are only bound")
	}
	if got, want := launch.holder(end), fmt.Sprintf("%s is held by %s, and nobody listens there", at, who); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	other.end()
	other = play(t, fake("server", "tcp", at.String()))
	if got, want := launch.holder(end), fmt.Sprintf("%s is held by server, pid %d, uid ", at, other.pid()); !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	listeners, err := ListenersAt([]int{at.Port})
	if err != nil || len(listeners) != 1 || listeners[0].Deaf || listeners[0].At.String() != at.String() {
		t.Errorf("%v, %v", listeners, err)
	}
}

func init() {
	roles["binder"] = func(args []string) int {
		port, _ := strconv.Atoi(args[0])
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}
		fmt.Println(args[0], err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
}
