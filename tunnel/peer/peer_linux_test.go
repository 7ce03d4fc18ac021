package peer

import (
	"io"
	"net"
	"os"
	"testing"
)

func TestAClientThatOnlyShutsDownItsSendingSideHasNotGone(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			client, server := loopbackPair(t, network)
			if Gone(server) {
				t.Error("gone before it did anything")
			}
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, server); err != nil { // until its end is seen
				t.Fatal(err)
			}
			if Gone(server) {
				t.Error("gone when it has only sent its last byte")
			}
			client.Close()
			if !Gone(server) {
				t.Error("not gone when it has closed")
			}
		})
	}
}

func TestAClientThatClosedOrWasResetHasGone(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			for _, linger := range []int{-1, 0} {
				client, server := loopbackPair(t, network)
				if err := client.SetLinger(linger); err != nil {
					t.Fatal(err)
				}
				client.Close()
				if !Gone(server) {
					t.Errorf("linger %d: not gone", linger)
				}
			}
		})
	}
}

// remoteConn is a connection whose other end is on another machine.
type remoteConn struct{ *net.TCPConn }

func (remoteConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234}
}

func TestAClientOnAnotherMachineIsNeverTakenForGone(t *testing.T) {
	client, server := loopbackPair(t, "tcp4")
	client.Close()
	if Gone(remoteConn{server}) {
		t.Error("gone, as the kernel knows no such socket")
	}
}

func TestTheOwnerOfAClientIsItsUser(t *testing.T) {
	for _, network := range families {
		client, server := loopbackPair(t, network)
		if uid, ok := Owner(server); !ok || uid != os.Getuid() {
			t.Errorf("%s: uid %d, %v", network, uid, ok)
		}
		client.Close()
		if _, ok := Owner(server); ok {
			t.Errorf("%s: a client that has gone has an owner", network)
		}
	}
	_, server := loopbackPair(t, "tcp4")
	if uid, ok := Owner(remoteConn{server}); ok {
		t.Errorf("a client on another machine is uid %d", uid)
	}
}

func TestTheOwnerOfAnotherUsersEndIsHe(t *testing.T) {
	other := play(t, as(t, intruder, fake("server", "tcp4", "127.0.0.1:0")))
	c := dial(t, "tcp4", other.at)
	if _, err := c.Read(make([]byte, 1)); err != nil { // he has accepted it
		t.Fatal(err)
	}
	if uid, ok := Owner(c); !ok || uid != uidOf(t, intruder) {
		t.Errorf("uid %d, %v", uid, ok)
	}
}

func TestWhoHasNotYetAcceptedHasNotGone(t *testing.T) {
	for _, network := range families {
		l := nearEnd(t, network)
		client := dial(t, network, l.Addr().String())
		if Gone(client) {
			t.Errorf("%s: gone", network)
		}
		l.Close()
		if !Gone(client) {
			t.Errorf("%s: not gone with its listener", network)
		}
	}
}

func TestASocketIsTheSameByInodeAndCookie(t *testing.T) {
	for _, c := range []struct {
		a, b socket
		same bool
	}{
		{socket{inode: 1, cookie: 2}, socket{inode: 1, cookie: 2}, true},
		{socket{inode: 1}, socket{inode: 1}, true}, // of a table
		{socket{inode: 1, cookie: 2}, socket{inode: 1, cookie: 3}, false},
		{socket{inode: 1, cookie: 2}, socket{inode: 3, cookie: 2}, false},
		{socket{}, socket{}, false}, // nobody is not somebody
	} {
		if c.a.is(c.b) != c.same {
			t.Errorf("%+v, %+v: %v", c.a, c.b, !c.same)
		}
	}
}
