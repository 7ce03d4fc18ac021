package peer

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// is fails the test unless that is what is known of a launch.
func is(t *testing.T, what string, l *launch, c net.Conn, ends, known bool) {
	t.Helper()
	if gotEnds, gotKnown := l.ends(c); gotEnds != ends || gotKnown != known {
		t.Errorf("%s: ends %v, known %v; want %v, %v", what, gotEnds, gotKnown, ends, known)
	}
}

// lead is a connection to a launch that listens at network, address, and its other end.
func lead(t *testing.T, l *launch, at net.Listener) (client, server net.Conn) {
	t.Helper()
	network, address := at.Addr().Network(), at.Addr().String()
	if err := l.listens(network, address); err != nil {
		t.Fatal(err)
	}
	client = dial(t, network, address)
	server, err := at.Accept()
	if err == nil {
		err = l.leads(t.Context(), client, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// bothNearEnds are a port and a socket, with a space in its name.
func bothNearEnds(t *testing.T) []net.Listener {
	t.Helper()
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "near end"))
	if err != nil {
		t.Fatal(err)
	}
	return []net.Listener{nearEnd(t, "tcp4"), socket}
}

func TestALaunchThatListensDoesNotEnd(t *testing.T) {
	for _, at := range bothNearEnds(t) {
		t.Run(at.Addr().Network(), func(t *testing.T) {
			l := this()
			client, server := lead(t, l, at)
			is(t, "it has said all", l, client, false, true)
			server.Close()
			is(t, "its side is closed", l, client, false, true)
			at.Close()
			is(t, "it listens no more", l, client, true, true)
		})
	}
}

// TestWhetherALaunchEndsIsNotKnownOfASocketOfElsewhere: in another network namespace.
func TestWhetherALaunchEndsIsNotKnownOfASocketOfElsewhere(t *testing.T) {
	at, err := net.Listen("unix", filepath.Join(t.TempDir(), "near"))
	if err != nil {
		t.Fatal(err)
	}
	l := this()
	client, server := lead(t, l, at)
	l.listed = false
	at.Close()
	is(t, "the other side is open", l, client, false, true)
	server.Close()
	is(t, "it is closed", l, client, false, false)
}

// TestALaunchThatCannotBeLookedAtIsNotTakenForOneThatEnds: there are no descriptors
// left.
func TestALaunchThatCannotBeLookedAtIsNotTakenForOneThatEnds(t *testing.T) {
	for _, at := range bothNearEnds(t) {
		t.Run(at.Addr().Network(), func(t *testing.T) {
			l := this()
			client, server := lead(t, l, at)
			server.Close()
			var before unix.Rlimit
			err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before)
			if err == nil {
				err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: before.Max})
			}
			ends, _ := l.ends(client)
			if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)); err != nil {
				t.Fatal(err)
			}
			if ends {
				t.Error("it ends")
			}
		})
	}
}

// TestAKilledLaunchEnds: that is known as soon as its connections are closed, and when
// it has been reaped.
func TestAKilledLaunchEnds(t *testing.T) {
	dir, err := os.MkdirTemp("", "near-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	near := filepath.Join(dir, "near")
	p := play(t, fake("ssh", "-L", near+":far:25"))
	l := newLaunch(p.pid(), []string{near + ":far:25"})
	client := dial(t, "unix", near)
	is(t, "it lives", l, client, false, true)
	_ = p.cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, client)
	is(t, "it is killed", l, client, true, true)
	p.end()
	is(t, "it is reaped", l, client, true, true)
}
