package tunnel

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

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
