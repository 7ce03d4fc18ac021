package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// heirsOwn are settings of a restart, whose environment is its own.
func heirsOwn(t *testing.T, options ...string) settings.Settings {
	t.Helper()
	t.Setenv("MINIMAIL_USER", "") // Like changes it
	t.Setenv("MINIMAIL_IDLE", "")
	return parsed(t, "restart", options...)
}

// TestAnHeirKnowsWhatThePredecessorWasTold, unless something else is said, or
// somebody could have made it up.
func TestAnHeirKnowsWhatThePredecessorWasTold(t *testing.T) {
	testbed.NeedRoot(t)
	uid := testbed.UidOf(t, testbed.RunAs)
	roots, users := testbed.PublicDir(t), testbed.PublicDir(t)
	testbed.GiveTo(t, users, testbed.RunAs)
	pid, named := filepath.Join(roots, "m.pid"), "--pid-file="+filepath.Join(roots, "m.pid")
	usersPid := filepath.Join(users, "m.pid")
	told := settings.Given{Options: []string{"--host=far", "--user=" + testbed.RunAs, "--idle=5"}}
	log := settings.DefaultLog()
	for name, c := range map[string]struct {
		options []string
		r       Report
		pidFile string
		want    []string // beside those
		stdout  string
		stderr  string
	}{
		"all of it, and its files": {nil, Report{Given: told, Log: "/l"}, pid, append(slices.Clone(told.Options), named, "--log-file=/l"), "", ""},
		"a log of its own": {nil, Report{Given: settings.Given{Options: append(slices.Clone(told.Options), "--log-file=/a", named)}, Log: "/l"}, pid,
			append(slices.Clone(told.Options), "--log-file=/a", named), "", ""},
		"the log of its file of settings": {nil, Report{Given: told, Log: "/l", LogInFile: true}, pid, append(slices.Clone(told.Options), named), "", ""},
		"the default log":                 {nil, Report{Given: told, Log: log}, pid, append(slices.Clone(told.Options), named), "", ""},
		"no log":                          {nil, Report{Given: told}, pid, append(slices.Clone(told.Options), named), "", ""},
		"options that are said now": {[]string{"--host", "near", "-u", testbed.RunAs}, Report{Given: told, Log: "/l"}, pid,
			[]string{named, "--log-file=/l"}, "minimail: pid 7 was started with other options, which are dropped: --idle=5\n", ""},
		"another user": {nil, Report{Given: settings.Given{Options: []string{"--host=far", "--user=" + testbed.Intruder}}}, pid, []string{named},
			"", "minimail: it is to become another user than nobody: what pid 7 was told is dropped\n"},
		"another user, of its environment": {nil, Report{Given: settings.Given{Environment: map[string]string{"MINIMAIL_USER": testbed.Intruder}}}, pid, []string{named},
			"", "minimail: it is to become another user than nobody: what pid 7 was told is dropped\n"},
		"another user, and its log": {nil, Report{Given: settings.Given{Options: []string{"--user=" + testbed.Intruder, "--log-file=/a"}}, Log: "/l"}, pid, []string{named, "--log-file=/l"},
			"", "minimail: it is to become another user than nobody: what pid 7 was told is dropped\n"},
		"one option that is said now": {[]string{"-u", testbed.RunAs}, Report{Given: settings.Given{Options: []string{"--idle=5"}}}, pid, []string{named},
			"minimail: pid 7 was started with other options, which are dropped: --idle=5\n", ""},
		"nothing": {nil, Report{}, pid, []string{named}, "", ""},
		"a place of a user's": {nil, Report{Given: told, Log: "/l"}, usersPid, []string{"--pid-file=" + usersPid}, "",
			"minimail: " + usersPid + " is in a place of nobody's: what pid 7 was told is dropped\n"},
		"a place of a user's, and options": {[]string{"--host", "near"}, Report{Given: told, Log: "/l"}, usersPid, []string{"--pid-file=" + usersPid}, "",
			"minimail: " + usersPid + " is in a place of nobody's: what pid 7 was told is dropped\n"},
	} {
		c.r.PID, c.r.User, c.r.uid = 7, testbed.RunAs, uid
		var s settings.Settings
		var stdout string
		s0 := heirsOwn(t, c.options...)
		stderr := said(t, &os.Stderr, func() { stdout = said(t, &os.Stdout, func() { s, _ = inherit(s0, c.r, c.pidFile) }) })
		want := slices.Concat([]string{"--settings", os.DevNull}, c.options, c.want, []string{"restart"})
		if got := s.Args(); !slices.Equal(got, want) || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%s:\n%q, want\n%q; it says %q, %q", name, got, want, stdout, stderr)
		}
	}
}

func TestOptionsThatAreNotSaidAgainAreNamed(t *testing.T) {
	r := Report{PID: 7, Given: settings.Given{Options: []string{"--pid-file=/p", "--settings=/s", "--host=far", "--idle=5", "--ssh-option=A B", "--verbose=true"}}}
	for want, options := range map[string][]string{
		"": {"--host", "a", "--idle", "6", "--ssh-option", "x=y", "-v"},
		"minimail: pid 7 was started with other options, which are dropped: --idle=5 '--ssh-option=A B'\n": {"--host", "a", "-v"},
	} {
		s := heirsOwn(t, options...)
		if got := said(t, &os.Stdout, func() { sayDropped(s, r) }); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhoIsNotOursToReplaceIsNot(t *testing.T) {
	life := errors.New("its life")
	begins := func(settings.Settings, *Teller) error { return life }
	pidFile := filepath.Join(t.TempDir(), "m.pid")
	user := UserName()
	if os.Geteuid() == 0 {
		user = testbed.RunAs
	}
	s := heirsOwn(t, "--host", "far", "-u", user)
	t.Setenv("MAINPID", "8")
	err := succeed(s, begins, Report{PID: 7, Foreground: true}, pidFile, nil)
	says(t, "in the foreground", err, "pid 7 runs in the foreground: who has started it there restarts it", "minimail stop; minimail start", fail.Failure)
	for _, r := range []Report{{PID: 7, Manager: "systemd"}, {PID: 7, Manager: "systemd", Foreground: true}} {
		err = succeed(s, begins, r, pidFile, nil)
		says(t, "a manager's", err, "pid 7 is systemd's", "sudo systemctl restart minimail", fail.Failure)
	}
	_ = said(t, &os.Stdout, func() { err = succeed(heirsOwn(t, "-u", "xyzzy", "--host", "far"), begins, Report{}, pidFile, nil) })
	if err == nil || err.Error() != `there is no user "xyzzy" on this machine` {
		t.Error(err)
	}
	_ = said(t, &os.Stdout, func() { err = succeed(heirsOwn(t, "-X", "-u", user, "--host", "far"), begins, Report{}, pidFile, nil) })
	if err != life {
		t.Error(err)
	}
	r := Report{PID: 7, Given: settings.Given{Options: []string{"--idle=soon"}}, uid: os.Getuid()}
	if err := succeed(heirsOwn(t), begins, r, pidFile, nil); err == nil || !strings.Contains(err.Error(), `--idle "soon"`) {
		t.Errorf("what cannot be: %v", err)
	}
}

func TestNothingIsReplacedThatDoesNotRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	none := errors.New("none")
	s := heirsOwn(t, "--pid-file", path, "--host", "far")
	if err := replace(s, nil, func() error { return none }); err != none {
		t.Error(err)
	}
	says(t, "reload", Reload(s, nil), "not running: nobody holds the pid file "+path, "pgrep -a minimail # shows one that has another pid file; kill PID stops it", fail.NotRunning)
	if err := replaceHolder(s, nil, path, os.Getpid()); err != errLate {
		t.Errorf("one that has just ended: %v", err)
	}
	s = heirsOwn(t, "--pid-file", filepath.Dir(path), "--host", "far")
	if err := replace(s, nil, func() error { return none }); err == nil || err == none || fail.Status(err) != fail.Usage {
		t.Errorf("a directory: %v", err)
	}
}

// TestOneThatCannotHandOverIsStoppedIfTheNextOneCanBe, and not before.
func TestOneThatCannotHandOverIsStoppedIfTheNextOneCanBe(t *testing.T) {
	pidFile, _, _ := answering(t, report(Report{PID: os.Getpid()}))
	s := heirsOwn(t, "--pid-file", pidFile, "--host", "far", "-u", "xyzzy")
	if err := replaceHolder(s, nil, pidFile, os.Getpid()); err == nil || err.Error() != `there is no user "xyzzy" on this machine` {
		t.Error(err)
	}
}

func TestAUserIsWhoHasItsName(t *testing.T) {
	for name, want := range map[string]bool{UserName(): true, "xyzzy": false} {
		if got := becomes(settings.Settings{User: name}, os.Getuid()); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if becomes(settings.Settings{User: UserName()}, os.Getuid()+1) {
		t.Error(strconv.Itoa(os.Getuid()), "is another one, too")
	}
}
