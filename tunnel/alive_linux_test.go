package tunnel

import (
	"net"
	"testing"
	"time"
)

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
