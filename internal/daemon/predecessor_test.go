package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// predecessorThat holds a pid file, and says what it is told to whoever asks for
// what it has.
func predecessorThat(t *testing.T, says func(w *wire, p *PidFile)) (pidFile string) {
	t.Helper()
	p, path := lockedPidFile(t)
	t.Cleanup(p.Release)
	l, err := net.Listen("unix", controlSocket(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w := newWire(conn.(*net.UnixConn))
			if wanted, _, err := w.receive(); err == nil && wanted.Is == "handover" {
				says(w, p)
			}
			w.close()
		}
	}()
	return path
}

func TestNothingIsTakenFromAPredecessorThatDoesNotGiveAll(t *testing.T) {
	send := func(w *wire, is string, f *os.File) { _ = w.send(item{Is: is, PID: os.Getpid()}, f) }
	held := func(w *wire, p *PidFile) {
		for _, f := range p.files() {
			send(w, "pid file", f)
		}
	}
	for want, says := range map[string]func(w *wire, p *PidFile){
		"EOF":                                    func(*wire, *PidFile) {},
		"of a version that does not hand over":   func(w *wire, _ *PidFile) { send(w, "", nil) },
		"another pid file, or lock":              func(w *wire, _ *PidFile) { send(w, "all", nil) },
		"it has no control socket":               func(w *wire, p *PidFile) { held(w, p); send(w, "all", nil) },
		"door: file file+net received":           func(w *wire, p *PidFile) { held(w, p); send(w, "door", p.pid) },
		"no file has come with \"door\"":         func(w *wire, _ *PidFile) { _, _ = w.conn.Write([]byte(`{"is":"door","file":true}`)) },
		errDeaf.Error():                          func(w *wire, _ *PidFile) { _, _, _ = w.receive() },
		"invalid character 'h' looking for beg":  func(w *wire, _ *PidFile) { _, _ = w.conn.Write([]byte("hello\n")) },
		"cannot take over from the running mini": func(w *wire, p *PidFile) { held(w, p); held(w, p); send(w, "all", nil) },
	} {
		path := predecessorThat(t, says)
		p, err := Precede(path)
		if p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want: %s", p, err, want)
		}
		if exists, pid, running, err := Held(path); !exists || pid != os.Getpid() || !running || err != nil {
			t.Errorf("%s: it does not hold its pid file any more: %v, %d, %v, %v", want, exists, pid, running, err)
		}
	}
}

func TestWhoHoldsNoPidFileIsNobodysPredecessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	testbed.Write(t, path, "4194303")
	if p, err := Precede(path); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// TestOneThatDoesNotLetGoIsNotReplaced: the pid in its file stays its own.
func TestOneThatDoesNotLetGoIsNotReplaced(t *testing.T) {
	path := predecessorThat(t, func(w *wire, p *PidFile) {
		l, err := net.Listen("unix", p.path+".other")
		if err != nil {
			return
		}
		defer l.Close()
		for _, f := range p.files() {
			_ = w.send(item{Is: "pid file"}, f)
		}
		_ = w.duplicate(item{Is: "control"}, l)
		_ = w.send(item{Is: "all", PID: os.Getpid()}, nil)
		if ready, _, err := w.receive(); err == nil && ready.Is == "ready" {
			_ = w.send(item{Is: "no"}, nil)
		}
	})
	p, err := Precede(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Replace(nil); err == nil || !strings.Contains(err.Error(), "has not let go: no") || p.Taken() {
		t.Errorf("%v, taken: %v", err, p.Taken())
	}
}
