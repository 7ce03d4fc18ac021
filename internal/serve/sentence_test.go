package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/settings"
	"minimail/tunnel"
)

func TestSystemdIsToldOfATunnelInASentence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(5*time.Second + 400*time.Millisecond)
		for want, now := range map[string]tunnel.Status{
			"tunnel down":                             {State: tunnel.Down},
			"tunnel starting":                         {State: tunnel.Starting},
			"tunnel starting; clients: 1":             {State: tunnel.Starting, Clients: 1},
			"tunnel up; clients: 2":                   {State: tunnel.Up, Clients: 2, Until: soon},
			"tunnel up; closes in 5s if nobody comes": {State: tunnel.Up, Until: soon},
			"tunnel down; the next try is in 5s: no":  {State: tunnel.BackingOff, Until: soon, Why: errors.New("no"), Clients: 3},
		} {
			if got := sentence(now); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

// openDoors are three: the first of two addresses, the last passed by a manager.
func openDoors(t *testing.T) (doors []door, at []string) {
	t.Helper()
	for i, n := range []int{2, 1, 1} {
		d := door{Spec: forward.Spec{SMTP: i == 0, Near: fmt.Sprint("near", i), Far: fmt.Sprint("far", i), Port: 100 + i, Binds: []string{"localhost"}}, passed: i == 2}
		for range n {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			d.listeners, at = append(d.listeners, l), append(at, l.Addr().String())
		}
		doors = append(doors, d)
	}
	return doors, at
}

func TestWhoStartsUsIsToldWhoServesWhere(t *testing.T) {
	doors, at := openDoors(t)
	l := &life{kept: &kept{}, doors: doors}
	want := fmt.Sprintf("minimail runs: pid %d, listening on %s and %s and %s (tcp) and %s (tcp), as user %s", os.Getpid(), at[0], at[1], at[2], at[3], daemon.UserName())
	if got := l.running(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l.before = &daemon.Predecessor{PID: 7}
	if got := l.running(); got != want+", in the place of pid 7" {
		t.Error(got)
	}
}

func TestTheReportIsOfAllThatIsKnown(t *testing.T) {
	doors, at := openDoors(t)
	s := settings.Settings{Host: "far", Foreground: true, LogFile: "/l"}
	given := settings.Given{Options: []string{"--host=far"}}
	free, since := make(chan struct{}), time.Now()
	l := &life{kept: &kept{before: &daemon.Predecessor{PID: 7}}, s: s, given: given, tell: daemon.NewTeller(), doors: doors}
	want := daemon.Report{PID: os.Getpid(), Since: since, User: daemon.UserName(), Host: "far", Listening: at, Tunnel: daemon.TunnelReport{State: tunnel.Down},
		Forwards: []daemon.ForwardReport{{Listening: at[:2], SMTP: true, Near: "near0", Far: "far0"}, {Listening: at[2:3], Near: "near1", Far: "far1"}, {Listening: at[3:], Near: "near2", Far: "far2"}},
		Handover: true, Before: 7, Foreground: true, Given: given}
	tun, f := tunnel.New(tunnel.Config{}), new(forward.Forwarder)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); tun.Run(ctx) }()
	defer func() { end(); <-ended }()
	if got := l.report(since, tun, f, free); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v,\nwant %+v", got, want)
	}
	close(free)
	if got := l.report(since, tun, f, free); got.Before != 0 || got.Stopping {
		t.Errorf("one that has ended: %d, stopping: %v", got.Before, got.Stopping)
	}
	l.tell.Stopping("stopping")
	if got := l.report(since, tun, f, free); !got.Stopping {
		t.Error("it does not say that it is stopping")
	}
}

func TestWhatTheNextOneMayTakeOverSaysWhoseItIs(t *testing.T) {
	doors, at := openDoors(t)
	var got []string
	for _, d := range legacy(doors) {
		got = append(got, d.Addr().String()+" "+d.Socket)
	}
	if want := []string{at[0] + " ", at[1] + " ", at[2] + " ", at[3] + " 102"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	specs := asBound(doors)
	for i, want := range []string{"localhost", "localhost", "127.0.0.1"} {
		if got := specs[i]; !reflect.DeepEqual(got.Binds, []string{want}) || got.Near != fmt.Sprint("near", i) || got.Port != 100+i {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	managers := legacyOf([]net.Listener{doors[0].listeners[0], doors[1].listeners[0]})
	for i, d := range managers {
		if _, port, _ := net.SplitHostPort(d.Addr().String()); d.Socket != port || d.Listener != doors[i].listeners[0] {
			t.Errorf("%+v", d)
		}
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := legacyOf([]net.Listener{l}); len(managers) != 2 || got != nil {
		t.Errorf("%v, %v", managers, got)
	}
}

// TestWithoutAnHeirOnlyTheManagersClientsAreLeft to whom that starts next.
func TestWithoutAnHeirOnlyTheManagersClientsAreLeft(t *testing.T) {
	doors, _ := openDoors(t)
	h := &handing{doors: doors}
	for i, d := range doors {
		for _, l := range d.listeners {
			if pass, ok := h.heir(l.Addr()); pass != nil || ok != (i == 2) {
				t.Errorf("door %d: %v", i, ok)
			}
		}
	}
	h.to.Store(&daemon.Heir{}) // serves nothing of ours
	if pass, ok := h.heir(doors[2].listeners[0].Addr()); pass != nil || ok {
		t.Errorf("an heir that does not serve it: %v", ok)
	}
}
