package peer

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/tunnel"
)

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
			if client.Close(); isConnected(client) {
				t.Errorf("%s: connected, and closed", network)
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
