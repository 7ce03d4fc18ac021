package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"minimail/internal/daemon"
	"minimail/internal/settings"
)

// TestWhoAsksOnceAllIsGivenAwayGetsNothing: somebody is connected when another
// minimail takes over, and only then says that he wants the same.
func TestWhoAsksOnceAllIsGivenAwayGetsNothing(t *testing.T) {
	_, pid, control := held(t)
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
	c, err := net.Dial(to.Addr().Network(), to.Addr().String())
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

func TestWhoWaitsForTheMinimailBeforeIsToldWhatItHas(t *testing.T) {
	l := &life{kept: &kept{before: &daemon.Predecessor{PID: 7}}, s: settings.Settings{Host: "far"}}
	free := make(chan struct{})
	late, end := context.WithDeadline(t.Context(), time.Now())
	defer end()
	if err := l.waitFor(late, free); err == nil || err.Error() != "the minimail before this one, pid 7, still has the tunnel to far, and clients at work there" {
		t.Error(err)
	}
	why := errors.New("why")
	gone, leave := context.WithCancelCause(t.Context())
	leave(why)
	if err := l.waitFor(gone, free); err != why {
		t.Error(err)
	}
	close(free)
	for range 20 { // that it is late does not matter then
		if err := l.waitFor(late, free); err != nil {
			t.Fatal(err)
		}
	}
}

// held is a pid file of our own, and its control socket.
func held(t *testing.T) (pidFile string, pid *daemon.PidFile, control net.Listener) {
	t.Helper()
	pidFile = filepath.Join(t.TempDir(), "m.pid")
	pid, err := daemon.Lock(pidFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	if control, err = daemon.ListenControl(pidFile, nil); err != nil {
		t.Fatal(err)
	}
	return pidFile, pid, control
}

// TestClientsThatArePassedOnComeToTheirDoor, as long as the one before runs.
func TestClientsThatArePassedOnComeToTheirDoor(t *testing.T) {
	pidFile, pid, control := held(t)
	doors, at := openDoors(t)
	l := &life{kept: &kept{pid: pid, control: control}, tell: daemon.NewTeller(), doors: doors}
	heirs := l.answer(nil, nil, nil)
	before, err := daemon.Precede(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	replaced := make(chan error, 1)
	go func() { replaced <- before.Replace(at[:1]) }()
	heir, h := <-heirs, &handing{doors: doors}
	if !l.handOver(heir, h) || l.pid != nil {
		t.Fatalf("not handed over: %v", l.pid)
	}
	if err := <-replaced; err != nil {
		t.Fatal(err)
	}
	next := &life{kept: &kept{before: before}, doors: doors}
	passed, free := next.passedOn()
	if len(passed) != len(at) {
		t.Errorf("%d listeners, want %d", len(passed), len(at))
	}
	here := doors[0].listeners[0]
	pass, ok := h.heir(here.Addr())
	if !ok || pass == nil {
		t.Fatal("it is passed to nobody")
	}
	if pass, ok := h.heir(doors[2].listeners[0].Addr()); pass != nil || ok {
		t.Error("one is passed to a door that the heir does not serve")
	}
	client := connected(t, here)
	pass(accepted(t, here))
	p := passed[here.Addr().String()]
	if p.Addr() != here.Addr() || p.Close() != nil {
		t.Errorf("it is at %v", p.Addr())
	}
	c, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "hello")
	c.Close()
	if got, err := io.ReadAll(client); string(got) != "hello" || err != nil {
		t.Errorf("the client has heard %q, %v", got, err)
	}
	stray := connected(t, here)
	_ = heir.Pass(nowhere{}, accepted(t, here)) // to a door that there is not
	if got, err := io.ReadAll(stray); len(got) > 0 || err != nil {
		t.Errorf("a stray one has heard %q, %v", got, err)
	}
	select {
	case <-free:
		t.Error("the near ends are free too early")
	default:
	}
	heir.Close()
	<-free
	for at, p := range passed {
		if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", at, err)
		}
	}
	if passed, free := (&life{kept: &kept{}}).passedOn(); passed != nil {
		t.Error("without one before there is something to pass on")
	} else {
		<-free
	}
}

// nowhere is an address that nobody serves.
type nowhere struct{}

func (nowhere) Network() string { return "tcp" }
func (nowhere) String() string  { return "192.0.2.1:25" }

func accepted(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
