package tunnel

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// rawSocket is a TCP socket.
func rawSocket(t *testing.T, flags int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "")
	t.Cleanup(func() { f.Close() })
	return f
}

// connects is what connectNow makes of a socket of ours.
func connects(t *testing.T, f *os.File, address string) error {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return connectNow("tcp", address, raw)
}

func TestTheLoopbackIsConnectedToBeforeGoCouldWaitForIt(t *testing.T) {
	l := rawSocket(t, 0)
	if err := unix.Bind(int(l.Fd()), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(int(l.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
	if err := connects(t, rawSocket(t, 0), address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := unix.Listen(int(l.Fd()), 0); err != nil { // one may wait
		t.Fatal(err)
	}
	c := rawSocket(t, 0)
	if err := connects(t, c, address); err != nil {
		t.Errorf("somebody listens: %v", err)
	}
	if _, err := unix.Getpeername(int(c.Fd())); err != nil {
		t.Errorf("it is not connected: %v", err)
	}
	if err := connects(t, rawSocket(t, unix.SOCK_NONBLOCK), address); err != nil {
		t.Errorf("who has to wait in the queue may: %v", err)
	}
	c.Close()
	if err := connects(t, c, address); err == nil {
		t.Error("a socket that is closed is connected")
	}
}

func TestAConnectionToANearEndHasNoKeepalives(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := dialNear(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	on := -1
	if e := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) }); e != nil || err != nil || on != 0 {
		t.Errorf("SO_KEEPALIVE is %d; %v, %v", on, e, err)
	}
}
