package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// TestOnATerminalAPointHasASignAndElsewhereAWord: NO_COLOR leaves the signs.
func TestOnATerminalAPointHasASignAndElsewhereAWord(t *testing.T) {
	t.Parallel()
	p := point{"key", broken, "no\x1b[2J key", []string{"make one"}}
	for want, signs := range map[string][3]string{
		"FAIL key       no?[2J key\n       fix: make one\n":             plainSigns,
		"✗ key       no?[2J key\n       fix: make one\n":                prettySigns,
		"\x1b[31m✗\x1b[0m key       no?[2J key\n       fix: make one\n": colourSigns,
	} {
		var out strings.Builder
		form{w: &out, signs: signs}.point(p)
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r := newForm(settings.Settings{}, f); r.signs != plainSigns {
		t.Errorf("into a file: %q", r.signs)
	}
}

func TestAPointThatIsWellNeedsNoMending(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := checkup{out: form{w: &out, signs: plainSigns}}
	c.add("a", well, "fine", "never said")
	if out.String() != "OK   a         fine\n" {
		t.Errorf("got %q", out.String())
	}
	if v := c.worst; v != well {
		t.Errorf("worst is %d", v)
	}
	c.add("b", broken, "bad")
	c.add("c", doubtful, "odd")
	if v := c.worst; v != broken {
		t.Errorf("worst is %d", v)
	}
}

func TestAnErrorWithoutAHintHasNoFix(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		errors.New("no"):                             "FAIL user      no\n",
		fail.Hint(errors.New("no"), "ask root"):      "FAIL user      no\n       fix: # ask root\n",
		fail.Hint(errors.New("no"), "id # may tell"): "FAIL user      no\n       fix: id # may tell\n",
	} {
		var out strings.Builder
		c := checkup{out: form{w: &out, signs: plainSigns}}
		if c.add("user", broken, err.Error(), fail.Fix(err)); out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

func TestTheServiceOfAKnownMailServerIsWhatToStop(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"exim4":    "sudo systemctl disable --now exim4",
		"master":   "sudo systemctl disable --now postfix",
		"minimail": "sudo kill 77 # or give check the --pid-file of the one that runs",
		"nc":       "sudo kill 77",
		"smtpd":    "sudo systemctl disable --now opensmtpd",
		"":         "sudo ss -ltnp 'sport = :25' # shows who it is; then stop it",
	} {
		l := listenerAt("127.0.0.1:25")
		if name != "" {
			l.Procs = []peer.Process{{PID: 77, Parent: 1, Name: name}}
		}
		if got := evict(l)[0]; got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestANagiosLineHasOneBarAndOneEnd(t *testing.T) {
	t.Parallel()
	c := &checkup{worst: broken}
	c.points = []point{{"login", broken, "a|b\nc", nil}, {"key", doubtful, "d", nil}}
	if got := nagiosLine(c, 2); got != "MINIMAIL CRITICAL - login: a/b?c" {
		t.Errorf("got %q", got)
	}
}

func listenerAt(at string) peer.Listener { return peer.Listener{At: netip.MustParseAddrPort(at)} }

func TestAPortThatSystemdHoldsMayBeOurs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := checkup{out: form{w: &out, signs: plainSigns}}
	l := listenerAt("127.0.0.1:25")
	l.Procs = []peer.Process{{PID: 1, Name: "systemd"}}
	c.listeners = []peer.Listener{l}
	c.checkPort("port", 25, forward.Loopback, 2, "another")
	if !strings.HasPrefix(out.String(), "WARN port      127.0.0.1:25 is held by systemd, pid 1, ") || !strings.Contains(out.String(), "fix: systemctl list-sockets") {
		t.Errorf("got %q", out.String())
	}
	// As soon as minimail has it as well, it is minimail's.
	out.Reset()
	c.listeners[0].Procs = append(c.listeners[0].Procs, peer.Process{PID: 77, Parent: 1, Name: "minimail"})
	c.running.PID = 77
	c.checkPort("port", 25, forward.Loopback, 2, "another")
	if out.String() != "OK   port      25 is held by minimail itself, pid 77\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestAFileIsNotTakenForAKeyWithAPassphraseForItsName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "my-passphrase")
	if err := os.WriteFile(path, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if k, there := new(checkup).tryKey(t.Context(), path); !there || k.Verdict != broken || !strings.Contains(k.Text, "is of no use: ") {
		t.Errorf("%v, %v", k, there)
	}
}

// TestTheEndMayOvertakeTheWordsOfTheLogin: ssh says both, but not in one place.
func TestTheEndMayOvertakeTheWordsOfTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := openssh.NewHearing(new(openssh.Client).NewReader())
		ctx, ends := context.WithCancelCause(t.Context())
		l, end, done := &login{said: said}, farEnd{}, make(chan struct{})
		go func() {
			defer close(done)
			l.askWhy(ctx, &end)
		}()
		synctest.Wait()
		said.Hear(`Authenticated to 192.0.2.1 ([192.0.2.1]:22) using "publickey".`, true)
		synctest.Wait()
		why := errors.New("the host has hung up")
		ends(why)
		<-done
		if end.refused != openssh.LinkLost || !errors.Is(end.err, why) {
			t.Errorf("%q, %v", end.refused, end.err)
		}
	})
}

func TestAServerThatSpeaksFirstIsWaitedForAndAnotherIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		smtp bool
		took time.Duration
		line string
		sent string
		err  string
	}{
		"SMTP":               {true, 20 * time.Second, "220 far", "220 far\r\n", ""},
		"which breaks off":   {true, 20 * time.Second, "220 far", "220 far", `its greeting has no end: "220 far"`},
		"of several lines":   {true, 20 * time.Second, "220-far", "220-far\r\n220 is slow\r\n", ""},
		"which thinks again": {true, 20 * time.Second, "554 no", "220-far\r\n554 no\r\n", ""},
		"another":            {false, silence, "", "", ""},
		"which does":         {false, time.Second, "220 far", "220 far\r\n", ""},
		"which needs no end": {false, time.Second, "220 far", "220 far", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() {
				if c.line == "" {
					return
				}
				time.Sleep(c.took)
				_, _ = theirs.Write([]byte(c.sent))
				theirs.Close()
			}()
			began := time.Now()
			line, err := greeting(ours, c.smtp, time.Minute)
			if took := time.Since(began); line != c.line || err != nil != (c.err != "") || err != nil && err.Error() != c.err || took != c.took {
				t.Errorf("%s: %q, %v, after %s", name, line, err, took)
			}
		})
	}
}

func TestAFarServerThatSaysNothingMayBeSlow(t *testing.T) {
	what, fixes := new(checkup).explainFar(farEnd{Spec: forward.Spec{Port: 25, Far: "localhost:25", SMTP: true}, silent: true})
	if !strings.Contains(what, "slow") || !slices.ContainsFunc(fixes, func(f string) bool { return strings.HasPrefix(f, "minimail check --wait 60 # ") }) {
		t.Errorf("%s: %q", what, fixes)
	}
}
