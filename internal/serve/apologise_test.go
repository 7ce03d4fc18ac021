package serve

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func TestAWatchedFileChangesWhenItIsAnotherOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	missing := newWatched(path)
	if missing.changed() {
		t.Error("one that is not there has changed")
	}
	write := func(text string, at time.Time) {
		t.Helper()
		testbed.Write(t, path, text)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-time.Hour)
	write("a", then)
	if !missing.changed() {
		t.Error("one that has come has not changed")
	}
	w := newWatched(path)
	for name, c := range map[string]struct {
		make func()
		want bool
	}{
		"the same":     {func() { write("a", then) }, false},
		"other text":   {func() { write("ab", then) }, true},
		"another time": {func() { write("b", then.Add(time.Second)) }, true},
	} {
		if c.make(); w.changed() != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if !w.changed() {
		t.Error("one that has gone has not changed")
	}
	write("a", then)
	if !w.changed() {
		t.Error("another file is the same")
	}
}

func TestAlreadyRunningIsNoReasonToApologise(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	why := errors.New("no")
	runs := fail.Exit(why, fail.AlreadyRunning)
	for _, c := range []struct {
		ls  []net.Listener
		why error
	}{{nil, why}, {[]net.Listener{l}, nil}, {[]net.Listener{l}, runs}} {
		if err := apologise(settings.Settings{}, daemon.NewTeller(), c.ls, c.why); err != c.why {
			t.Errorf("%v, want %v", err, c.why)
		}
	}
}

func TestClientsAreToldOnlyWhatIsStillTrue(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "settings")
	for name, c := range map[string]struct {
		make func(r *reluctant)
		want bool
	}{
		"at once":           {func(*reluctant) {}, true},
		"a little later":    {func(r *reluctant) { r.file.since = time.Now().Add(-4 * time.Second) }, true},
		"later":             {func(r *reluctant) { r.file.since = time.Now().Add(-6 * time.Second) }, false},
		"with another file": {func(*reluctant) { testbed.Write(t, path, "MINIMAIL_HOST=far\n") }, false},
	} {
		r := &reluctant{l, newWatched(path)}
		c.make(r)
		connected(t, l)
		conn, err := r.Accept()
		if c.want && err != nil && time.Since(r.file.since) <= freshFor || !c.want && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			conn = accepted(t, l) // is left in the queue
		}
		conn.Close()
		_ = os.Remove(path)
	}
	l.Close()
	if _, err := (&reluctant{l, newWatched(path)}).Accept(); err == nil {
		t.Error("a closed one accepts")
	}
}

// TestWhyItCannotServeIsToldToWhoAsks, until somebody else takes over who can.
func TestWhyItCannotServeIsToldToWhoAsks(t *testing.T) {
	pidFile, pid, control := held(t)
	doors, at := openDoors(t)
	ls, given := doors[0].listeners, settings.Given{Options: []string{"--host=far"}}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		answerWhy(control, zerolog.Nop(), ls, fail.Hint(errors.New("no host"), "--host"), given,
			daemon.Legacy{PidFile: pid, Control: control, Doors: legacyOf(ls)}, daemon.NewTeller(), func() { close(over) })
	}()
	asks := connected(t, control)
	say(t, asks, "status")
	var got daemon.Report
	if err := json.NewDecoder(asks).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if time.Since(got.Since) > time.Hour {
		t.Errorf("since %v", got.Since)
	}
	got.Since = time.Time{}
	if want := (daemon.Report{PID: os.Getpid(), User: daemon.UserName(), Problem: "no host", Hint: "--host", Listening: at[:2], Handover: true, Foreground: true, Given: given}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v,\nwant %+v", got, want)
	}
	before, err := daemon.Precede(pidFile)
	if err != nil || len(before.Doors) != 2 || before.PID != os.Getpid() {
		t.Fatalf("%+v, %v", before, err)
	}
	if err := before.Replace(nil); err != nil {
		t.Error(err)
	}
	<-over
	before.PidFile.Release()
	before.Close()
	control.Close()
	<-ended
}
