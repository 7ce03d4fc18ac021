package forward

import (
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAMachineWithoutANameIsLocalhost(t *testing.T) {
	got := make(chan string)
	go func() {
		defer close(got)
		runtime.LockOSThread() // which ends with us
		if unix.Unshare(unix.CLONE_NEWUTS) == nil && unix.Sethostname(nil) == nil {
			got <- reply421(errLost)
		}
	}()
	if reply := <-got; reply == "" {
		t.Skip("to take its name from a machine needs root")
	} else if !strings.HasPrefix(reply, "421 localhost minimail: ") {
		t.Errorf("%q", reply)
	}
}

// TestNoKeepalivesGoToAClientOnThisMachine: its death closes the connection, and
// each probe is a wake-up.
func TestNoKeepalivesGoToAClientOnThisMachine(t *testing.T) {
	for host, want := range map[string]int{"127.0.0.1": 0, "0.0.0.0": 1} {
		ls, err := Listen([]string{host}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer Close(ls)
		client, err := net.Dial("tcp", ls[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := ls[0].Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); got != want || err != nil {
				t.Errorf("of a client of %s: %d, %v; want %d", host, got, err, want)
			}
		})
	}
}
