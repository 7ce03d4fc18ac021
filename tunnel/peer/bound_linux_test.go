package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

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
