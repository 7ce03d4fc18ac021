package daemon

import (
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// A minimail that was frozen may read what an heir has said that is no more.
func TestWhoHasHungUpIsKnownBeforeItsWordsAreRead(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(c.(*net.UnixConn))
	defer w.close()
	_ = json.NewEncoder(conn).Encode(item{Is: "ready"})
	if w.hungUp() {
		t.Error("who is there has hung up")
	}
	conn.Close()
	if !w.hungUp() {
		t.Error("who is no more has not hung up")
	}
	if i, _, err := w.receive(); i.Is != "ready" || err != nil {
		t.Errorf("%q, %v", i.Is, err)
	}
}

// Whoever gives up has died, or hears that we have hung up.
func TestWhoAsksForOurPlaceAndIsNotReadyIsHungUpOn(t *testing.T) {
	dir := t.TempDir()
	held, err := Lock(filepath.Join(dir, "pid"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	l, err := net.Listen("unix", filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := Control{Legacy: func() Legacy { return Legacy{PidFile: held, Control: l} }}
	go c.Answer(l) // ends with l

	for _, word := range []string{"no", "handover"} {
		conn, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		asks, hears := json.NewEncoder(conn), json.NewDecoder(conn)
		_ = asks.Encode(item{Is: "handover"})
		for i := (item{}); i.Is != "all"; {
			if err := hears.Decode(&i); err != nil {
				t.Fatal(err)
			}
		}
		_ = asks.Encode(item{Is: word})
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("after %q: %d bytes, %v", word, n, err)
		}
	}
}

// TestAClientThatWasPassedOnIsHeldByNobodyElse: he is to see it when it is closed.
func TestAClientThatWasPassedOnIsHeldByNobodyElse(t *testing.T) {
	control, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	heir, err := net.Dial("unix", control.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.Accept()
	if err != nil {
		t.Fatal(err)
	}
	old := newWire(c.(*net.UnixConn))
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	client, err := net.Dial("tcp", door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	served, err := door.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := served.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	if err := old.send(item{Is: "client", Name: "127.0.0.1:25"}, f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	served.Close()
	old.close()
	passed := 0
	(&Predecessor{wire: newWire(heir.(*net.UnixConn))}).Clients(func(at string, client net.Conn) {
		passed++
		client.Close()
	})
	_ = client.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := client.Read(make([]byte, 1)); passed != 1 || n > 0 || err != io.EOF {
		t.Errorf("%d clients; after the end: %d bytes, %v", passed, n, err)
	}
}
