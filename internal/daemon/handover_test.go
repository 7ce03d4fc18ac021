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
	c := Control{Report: func() Report { return Report{} }, Legacy: func() Legacy { return Legacy{PidFile: held, Control: l} }}
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

// TestWhoTakesOverHasAllTheTimeItNeeds, once it has been heard: neither side hangs
// up because the other one waits for its clients.
func TestWhoTakesOverHasAllTheTimeItNeeds(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, take := range map[string]func(heir, ours *wire) error{
		"the heir": func(heir, ours *wire) error {
			next := &Predecessor{wire: heir, files: p.files(), Legacy: Legacy{Control: l}}
			if err := next.complete(path); err != nil {
				return err
			}
			_ = ours.send(item{Is: "client"}, nil)
			_, _, err := heir.receive()
			return err
		},
		"the one before": func(heir, ours *wire) error {
			_ = heir.send(item{Is: "ready", PID: 7}, nil)
			heirs := make(chan *Heir, 1)
			Control{Heirs: heirs, Legacy: func() Legacy { return Legacy{PidFile: p, Control: l} }}.handOver(ours)
			if len(heirs) == 0 {
				return io.EOF
			}
			return nil
		},
	} {
		heir, ours := wires(t)
		for _, w := range []*wire{heir, ours} {
			_ = w.conn.SetDeadline(time.Now())
		}
		if name != "the heir" {
			_ = heir.conn.SetDeadline(noDeadline)
		} else {
			_ = ours.conn.SetDeadline(noDeadline)
		}
		if err := take(heir, ours); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
