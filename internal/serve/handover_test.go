package serve

import (
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"minimail/internal/daemon"
)

// TestWhoAsksOnceAllIsGivenAwayGetsNothing: somebody is connected when another
// minimail takes over, and only then says that he wants the same.
func TestWhoAsksOnceAllIsGivenAwayGetsNothing(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "m.pid")
	pid, err := daemon.Lock(pidFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	control, err := daemon.ListenControl(pidFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{kept: &kept{pid: pid, control: control}, tell: daemon.NewTeller()}
	heirs := l.answer(nil, nil, nil)
	late, first := connected(t, control), connected(t, control) // accepted in this order
	say(t, first, "handover")
	say(t, first, "ready")
	if !l.handOver(<-heirs, &handing{}) {
		t.Fatal("it was not handed over")
	}
	say(t, late, "handover")
	if got, err := io.ReadAll(late); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

func connected(t *testing.T, to net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", to.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func say(t *testing.T, to net.Conn, what string) {
	t.Helper()
	if err := json.NewEncoder(to).Encode(map[string]string{"is": what}); err != nil {
		t.Fatal(err)
	}
}
