package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// answering is a pid file that is held, and a minimail that answers beside it.
func answering(t *testing.T, c Control) (pidFile string, held *PidFile, at net.Listener) {
	t.Helper()
	held, pidFile = lockedPidFile(t)
	at, err := ListenControl(pidFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); c.Answer(at) }()
	t.Cleanup(func() { at.Close(); <-done; held.Release() })
	return pidFile, held, at
}

func report(r Report) Control { return Control{Report: func() Report { return r }} }

func TestTheControlSocketIsItsUsersAlone(t *testing.T) {
	p, path := lockedPidFile(t)
	for range 2 { // also where a dead one's is
		l, err := ListenControl(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(controlSocket(path))
		if err != nil || fi.Mode() != fs.ModeSocket|0o600 || OwnerOf(fi) != os.Getuid() {
			t.Errorf("%v, %v", fi, err)
		}
		l.Close()
		if !testbed.Exists(controlSocket(path)) {
			t.Error("it goes with its listener: its successor's would, too")
		}
	}
	if f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE, 0o666); err != nil {
		t.Error(err)
	} else if fi, err := f.Stat(); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("the umask is another one now: %v, %v", fi, err)
	}
	p.Release()
	if testbed.Exists(controlSocket(path)) {
		t.Error("it outlives the pid file")
	}
	testbed.Write(t, controlSocket(path), "a file of somebody's")
	if l, err := ListenControl(path, nil); err == nil || l != nil || testbed.Read(t, controlSocket(path)) != "a file of somebody's" {
		t.Errorf("in the place of a file: %v, %v", l, err)
	}
}

func TestRootGivesTheControlSocketToWhomItBecomes(t *testing.T) {
	testbed.NeedRoot(t)
	who, err := user.Lookup(testbed.RunAs)
	if err != nil {
		t.Fatal(err)
	}
	dir := testbed.PublicDir(t)
	if err := errors.Join(os.Chown(dir, 0, 1), os.Chmod(dir, 0o755|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "m.pid")
	l, err := ListenControl(path, who)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fi, err := os.Lstat(controlSocket(path)); err != nil || OwnerOf(fi) != testbed.UidOf(t, testbed.RunAs) || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("%v, %v", fi, err)
	}
	if l, err := ListenControl(path, &user.User{Uid: "x"}); err == nil || l != nil {
		t.Errorf("of nobody's: %v", err)
	}
}

func TestAMinimailSaysHowItIs(t *testing.T) {
	synced := time.Now().Round(time.Second)
	pidFile, _, _ := answering(t, report(Report{PID: 7, Since: synced, User: "games", Listening: []string{"127.0.0.1:25"}, Handover: true, Problem: "no host", Hint: "--host"}))
	r, err := askControl(pidFile)
	if err != nil || r.PID != 7 || r.uid != os.Getuid() {
		t.Errorf("%+v, %v", r, err)
	}
	if got := Listening(pidFile); len(got) != 1 || got[0] != "127.0.0.1:25" {
		t.Errorf("it serves at %q", got)
	}
	var text strings.Builder
	how(&text, pidFile)
	head := fmt.Sprintf("Pid file:    %s\nPid in file: %d\nRunning:     yes\n", pidFile, os.Getpid())
	if want := "Since:       "; !strings.HasPrefix(text.String(), want) {
		t.Errorf("%s", &text)
	}
	if got := said(t, &os.Stdout, func() { err = Status(parsed(t, "status", "--pid-file", pidFile)) }); err != nil || !strings.HasPrefix(got, head+"Since:       ") || !strings.HasSuffix(got, "\nProblem:     no host\nHint:        --host\n") {
		t.Errorf("%v\n%s", err, got)
	}
	var answer struct {
		File    string  `json:"pid_file"`
		PID     int     `json:"pid_in_file"`
		Running bool    `json:"running"`
		Report  *Report `json:"report"`
		Error   *string `json:"error"`
	}
	got := said(t, &os.Stdout, func() { err = Status(parsed(t, "status", "--json", "--pid-file", pidFile)) })
	if json := json.Unmarshal([]byte(got), &answer); err != nil || json != nil {
		t.Fatal(err, json)
	}
	if answer.File != pidFile || answer.PID != os.Getpid() || !answer.Running || answer.Report == nil || answer.Report.User != "games" || answer.Error != nil {
		t.Errorf("%s", got)
	}
}

func TestStatusHasTheLSBsCodes(t *testing.T) {
	dir := t.TempDir()
	held, running := lockedPidFile(t) // where nobody answers
	defer held.Release()
	for name, c := range map[string]struct {
		pidFile, text string
		want          string
		status        int
	}{
		"no file":    {filepath.Join(dir, "none"), "", "No pid file found: not running\n", fail.NotRunning},
		"an empty":   {filepath.Join(dir, "empty"), "\n", "Pid in file: none\nRunning:     no\n", fail.NotRunning},
		"a dead one": {filepath.Join(dir, "dead"), "4194303", "Pid in file: 4194303\nRunning:     no\n", fail.DeadPidFile},
		"unreadable": {dir, "", "", fail.Unknown},
		"it says no": {running, "", fmt.Sprintf("Pid in file: %d\nRunning:     yes\nMore:        not to be had: dial unix %s: connect: no such file or directory\n", os.Getpid(), controlSocket(running)), 0},
	} {
		if c.text != "" {
			testbed.Write(t, c.pidFile, c.text)
		}
		if c.want != "" {
			c.want = "Pid file:    " + c.pidFile + "\n" + c.want
		}
		var err error
		got := said(t, &os.Stdout, func() { err = Status(parsed(t, "status", "--pid-file", c.pidFile)) })
		if got != c.want || fail.Status(err) != c.status {
			t.Errorf("%s: status %d, want %d (%v):\n%swant:\n%s", name, fail.Status(err), c.status, err, got, c.want)
		}
		got = said(t, &os.Stdout, func() { err = Status(parsed(t, "status", "--json", "--pid-file", c.pidFile)) })
		if fail.Status(err) != c.status || (c.want == "") != (got == "") || c.status == 0 && !strings.Contains(got, `"error":"dial unix `) || c.status != 0 && strings.Contains(got, "error") {
			t.Errorf("%s, in JSON: status %d, want %d: %s", name, fail.Status(err), c.status, got)
		}
	}
}

// TestWhoAnswersIsRootOrWhosePidFileItIs, as far as the kernel tells.
func TestWhoAnswersIsRootOrWhosePidFileItIs(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	testbed.GiveTo(t, dir, testbed.Intruder)
	path := filepath.Join(dir, "m.pid")
	testbed.Write(t, path, "")
	testbed.PlayedBy(t, testbed.Intruder, player, "listens", controlSocket(path))
	if c, err := dialControl(path); c != nil || err == nil || err.Error() != "it is "+testbed.Intruder+" who answers there" {
		t.Errorf("root's pid file: %v", err)
	}
	testbed.Write(t, lockFile(path), "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := dialControl(path); err == nil || err.Error() != "it is "+testbed.Intruder+" who answers there" {
		t.Errorf("root's lock: %v", err)
	}
	testbed.GiveTo(t, lockFile(path), testbed.Intruder)
	c, err := dialControl(path)
	if err != nil {
		t.Fatalf("its own lock: %v", err)
	}
	c.Close()
	if err := os.Remove(lockFile(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := dialControl(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody's: %v", err)
	}
}

func TestNobodyElseMayInherit(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	pid, err := Lock(filepath.Join(dir, "m.pid"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pid.Release()
	l, err := ListenControl(pid.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(controlSocket(pid.path), 0o666); err != nil { // some systems mind no mode
		t.Fatal(err)
	}
	for name, want := range map[string]string{testbed.Intruder: fmt.Sprintf("uid %d has asked for what we have", testbed.UidOf(t, testbed.Intruder)), "root": ""} {
		testbed.PlayedBy(t, name, player, "dials", controlSocket(pid.path))
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		err = mayInherit(c.(*net.UnixConn))
		if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
			t.Errorf("%s: %s", name, got)
		}
		if want != "" { // and is hung up on
			Control{Log: zerolog.New(&log)}.handOver(newWire(c.(*net.UnixConn)))
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log: %s", &log)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("it is not hung up on: %v", err)
			}
		}
		c.Close()
	}
}

func init() {
	plays["listens"] = func(args []string) int {
		l, err := net.Listen("unix", args[0])
		fmt.Println(err)
		if err == nil {
			_, _ = l.Accept()
		}
		return testbed.Stay()
	}
	plays["dials"] = func(args []string) int {
		c, err := net.Dial("unix", args[0])
		fmt.Println(err)
		if err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
		return testbed.Stay()
	}
}

// One that has asked for nothing that we know wants to know how we are.
func TestAnAnswerComesToWhoHasNotSaidWhatHeWants(t *testing.T) {
	pidFile, _, at := answering(t, report(Report{PID: 7}))
	c, err := net.Dial("unix", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "{}\n")
	if r, err := readReport(c); err != nil || r.PID != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	at.Close()
	if err := os.Remove(controlSocket(pidFile)); err != nil {
		t.Fatal(err)
	}
	if r, err := askControl(pidFile); !errors.Is(err, fs.ErrNotExist) || r.uid != 0 || Listening(pidFile) != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
