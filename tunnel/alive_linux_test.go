package tunnel

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheKernelsSignsAreWhatItSaysOfASocket(t *testing.T) {
	const ms = time.Millisecond
	for info, want := range map[unix.TCPInfo]signs{
		{Last_data_recv: 20, Last_ack_recv: 10}:                                                  {heard: 10 * ms, data: 20 * ms},
		{Last_data_recv: 10, Last_ack_recv: 20, Retransmits: 3}:                                  {heard: 10 * ms, data: 10 * ms, again: 3},
		{Last_data_recv: 10, Last_ack_recv: 10, Unacked: 1}:                                      {heard: 10 * ms, data: 10 * ms, owed: true},
		{Last_data_recv: 10, Last_ack_recv: 10, Notsent_bytes: 1}:                                {heard: 10 * ms, data: 10 * ms, owed: true},
		{Last_data_recv: 10, Last_ack_recv: 10, Unacked: 2, Notsent_bytes: 2, Last_data_sent: 5}: {heard: 10 * ms, data: 10 * ms, owed: true},
	} {
		if got := signsOf(&info); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// Until ssh has named its host, who knows which connection leads there?
func TestTheSignsAreThoseOfTheHostOnceSSHHasNamedIt(t *testing.T) {
	libc, host := newPair(t, "127.0.0.1:0"), newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, stays, libc.copy, host.copy)
	l := newLaunch(Command{})
	defer l.stop(nil)
	l.wire.take([]socket{{cmd.Process.Pid, 3, libc.host()}, {cmd.Process.Pid, 4, host.host()}})
	heard := func() time.Duration {
		if _, err := libc.ours.Write([]byte{0}); err != nil { // libc hears something all the time
			t.Fatal(err)
		}
		s, ok := l.signs()
		if !ok {
			t.Fatal("there are no signs")
		}
		return s.heard
	}
	old := func() bool { s, _ := l.wire.signs(host.host()); return s.heard >= 50*time.Millisecond }
	eventually(t, "the host has said nothing for a moment", old)
	eventually(t, "somebody else has just said something", func() bool { return heard() < 50*time.Millisecond })
	l.loggedIn(host.host())
	if d := heard(); d < 50*time.Millisecond {
		t.Errorf("something came from the host %s ago", d)
	}
}

// ssh listens for its near ends, too; such a socket says that all has come just
// now, whatever has become of the host.
func TestASocketThatListensGivesNoSigns(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	host := newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, stays, listening, host.copy)
	w := newWire()
	all := []socket{{cmd.Process.Pid, 3, ""}, {cmd.Process.Pid, 4, host.host()}}
	w.take(all)
	for deadline := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		if s, ok := w.signs(""); ok && s.heard > 10*time.Millisecond && !s.owed {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%+v, known: %t", s, ok)
		}
	}
	w.take(all[:1])
	if s, ok := w.signs(""); ok {
		t.Errorf("of a listening socket alone: %+v", s)
	}
}
