package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
)

// hears is the next word at a NOTIFY_SOCKET.
func hears(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 200)
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSystemdHearsEachWordInItsForm(t *testing.T) {
	l := listening(t)
	tell := NewTeller()
	for want, say := range map[string]func(){
		fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=it runs", os.Getpid()): func() { tell.Ready("it runs") },
		"STATUS=busy":              func() { tell.Status("busy") },
		"RELOADING=1":              func() { tell.Reloading() },
		"STOPPING=1\nSTATUS=until": func() { tell.Stopping("until") },
	} {
		if say(); hears(t, l) != want {
			t.Errorf("not %q", want)
		}
	}
}

func TestWhoHasStartedUsIsKnownByWhatItHasToldUs(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "8:9")
	if tell := NewTeller(); tell.Manager() != "" || tell.Env() != nil {
		t.Errorf("%q, %q", tell.Manager(), tell.Env())
	}
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	tell := NewTeller()
	if got := tell.Env(); tell.Manager() != "systemd" || !slices.Equal(got, []string{"/run/x", "8:9"}) {
		t.Errorf("%q, %q", tell.Manager(), got)
	}
	next := &Teller{}
	next.Inherit([]string{"/run/y"}) // is not what Env has said
	if next.Manager() != "" {
		t.Error("half an environment is taken over")
	}
	next.Inherit([]string{"/run/y", "1:2"})
	if got := next.Env(); !slices.Equal(got, []string{"/run/y", "1:2"}) || os.Getenv("JOURNAL_STREAM") != "1:2" {
		t.Errorf("%q, JOURNAL_STREAM=%s", got, os.Getenv("JOURNAL_STREAM"))
	}
	next.Status("nobody listens there")
	if next.Manager() != "" {
		t.Error("who does not listen manages us")
	}
}

// TestOnlyWhoWaitsIsToldWhy: not once it has been told that we are ready.
func TestOnlyWhoWaitsIsToldWhy(t *testing.T) {
	why := fail.Hint(errors.New("no"), "yes")
	for name, c := range map[string]struct {
		tell func(w *os.File)
		want string
	}{
		"it waits":                   {func(w *os.File) { (&Teller{pipe: w}).failed(why) }, "minimail: no\nhint: yes\n"},
		"it has heard that we are":   {func(w *os.File) { tell := &Teller{pipe: w}; tell.Ready("a"); tell.Ready("b"); tell.failed(why) }, "\x06a\n"},
		"it hears what is on stderr": {func(w *os.File) { onStderr(w, func() { (&Teller{pipe: w}).failed(why) }) }, ""},
		"it is not there, in fact":   {func(*os.File) { new(Teller).failed(why) }, ""},
		"with something on its mind": {func(w *os.File) { tell := &Teller{pipe: w}; tell.Status("x"); tell.Stopping("x"); tell.Replaced(7) }, ""},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.tell(w)
		w.Close()
		if got, err := io.ReadAll(r); string(got) != c.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		r.Close()
	}
}

func onStderr(w *os.File, do func()) {
	was := os.Stderr
	defer func() { os.Stderr = was }()
	os.Stderr = w
	do()
}

func TestADaemonsWordsAreOneSentenceOrAllThatItHasSaid(t *testing.T) {
	for words, c := range map[string]struct {
		want, printed string
		ready         bool
	}{
		"\x06it runs\n":                 {"it runs", "", true},
		"\x06it runs":                   {"it runs", "", true},
		"a warning\n\x06 it runs \n":    {"it runs", "a warning\n", true},
		"a: \x06b\nc":                   {"a: \x06b\nc", "", false},
		"":                              {"", "", false},
		strings.Repeat("x", maxWords+1): {strings.Repeat("x", maxWords), "", false},
	} {
		var got string
		var ready bool
		printed := said(t, &os.Stderr, func() { got, ready = listen(strings.NewReader(words)) })
		if got != c.want || ready != c.ready || printed != c.printed {
			t.Errorf("%.40q: %.40q, %v, and prints %q", words, got, ready, printed)
		}
	}
}

// TestOneThatComesTooLateSaysNothing: somebody else is to be replaced then.
func TestOneThatComesTooLateSaysNothing(t *testing.T) {
	for _, late := range []bool{true, false} {
		s, child := started(t, "echo 'minimail: no'; exit 3")
		s.late = func() bool { return late }
		var err error
		got := said(t, &os.Stderr, func() { _, err = s.wait(child) })
		if late && (err != errLate || got != "") || !late && (fail.Status(err) != 3 || got != "minimail: no\n") {
			t.Errorf("late %v: %v, %q", late, err, got)
		}
	}
}

func TestTheManagersReloadEndsWithWhatItsDaemonSays(t *testing.T) {
	t.Setenv("MAINPID", "1")
	s, child := started(t, "exit 0") // without a word
	if _, err := s.wait(child); err == nil || err.Error() != "the daemon died before it was ready: exit status 0" {
		t.Error(err)
	}
	s, child = started(t, "echo no; kill -9 $$")
	var err error
	if got := said(t, &os.Stderr, func() { _, err = s.wait(child) }); err == nil || err.Error() != "" || fail.Status(err) != 1 || got != "no\n" {
		t.Errorf("%v, %q", err, got)
	}
	t.Setenv("MAINPID", "")
	s, child = started(t, "echo no; kill -9 $$")
	if got := said(t, &os.Stderr, func() { _, err = s.wait(child) }); err == nil || err.Error() != "the daemon died before it was ready: signal: killed" || got != "no\n" {
		t.Errorf("%v, %q", err, got)
	}
	_, _ = child.Wait()
	if _, err := s.wait(child); err == nil || !strings.HasPrefix(err.Error(), "cannot wait for the daemon: ") {
		t.Error(err)
	}
}

func TestWhoHasLostItsStarterWaitsNoMore(t *testing.T) {
	for _, starter := range []string{"", "1x"} { // is not our parent
		t.Setenv(orphanOf, starter)
		waitForManager()
		if got, ok := os.LookupEnv(orphanOf); ok {
			t.Errorf("ssh would hear of %q", got)
		}
	}
}

// TestADaemonTellsItsStarterOnItsStdout, and has ssh hear of neither that nor of
// its starter's own service manager.
func TestADaemonTellsItsStarterOnItsStdout(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	tell, err := tellStarter()
	if err != nil {
		t.Fatal(err)
	}
	defer tell.pipe.Close()
	if v, ok := os.LookupEnv("NOTIFY_SOCKET"); ok || tell.Manager() != "" {
		t.Errorf("NOTIFY_SOCKET is %q, its manager %q", v, tell.Manager())
	}
	var its, stdout unix.Stat_t
	if err := errors.Join(unix.Fstat(int(tell.pipe.Fd()), &its), unix.Fstat(1, &stdout)); err != nil || its.Dev != stdout.Dev || its.Ino != stdout.Ino {
		t.Errorf("it is another file: %v", err)
	}
	flags, err := unix.FcntlInt(tell.pipe.Fd(), unix.F_GETFD, 0)
	if fd := tell.pipe.Fd(); err != nil || flags&unix.FD_CLOEXEC == 0 || fd < 3 {
		t.Errorf("descriptor %d has the flags %#x, %v", fd, flags, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	(&Teller{pipe: w}).Ready("it runs")
	if err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the pipe is still open when it is ready: %v", err)
	}
}
