package serve

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

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
