package daemon

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// holding is a minimail of its own that holds a pid file. It ends when it is told
// to, and leaves its pid file there, or when its stdin is closed as well.
func holding(t *testing.T, pidFile, how string) (pid int, stdin io.Closer) {
	t.Helper()
	cmd := exec.Command(testbed.FakeProgram(t, player), "holds", pidFile, how)
	stdin, line, err := testbed.StartAndHear(t, cmd)
	done := make(chan struct{})
	go func() { defer close(done); _, _ = cmd.Process.Wait() }() // a zombie is no minimail, but stays in the way
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	if err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid, stdin
}

func init() {
	plays["holds"] = func(args []string) int {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		p, err := Lock(args[0], nil)
		if err != nil {
			return 1
		}
		fmt.Println("held")
		<-told
		if args[1] == "with clients" {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
		p.lock.Close()
		_ = p.pid.Truncate(0) // as one does, in this order, that is not root any more
		return 0
	}
}

func TestAStopEndsTheHolderAndTidiesUp(t *testing.T) {
	path := filepath.Join(testbed.PublicDir(t), "m.pid")
	pid, _ := holding(t, path, "")
	control, err := ListenControl(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	go report(Report{PID: pid}).Answer(control) // ends with it
	got := said(t, &os.Stdout, func() { err = Stop(parsed(t, "stop", "--pid-file", path)) })
	if err != nil || got != fmt.Sprintf("minimail is stopped: pid %d\n", pid) {
		t.Errorf("%q, %v", got, err)
	}
	if testbed.Exists(path) || testbed.Exists(lockFile(path)) {
		t.Error("its files are still there")
	}
	testbed.Write(t, path, "4194303")
	err = Stop(parsed(t, "stop", "--pid-file", path))
	says(t, "a dead one", err, "not running: nobody holds the pid file "+path, "pgrep -a minimail # shows one that has another pid file; kill PID stops it", fail.NotRunning)
	if testbed.Exists(path) {
		t.Error("a dead one's file is still there")
	}
	if err := Stop(parsed(t, "stop", "--pid-file", filepath.Dir(path))); err == nil || fail.Status(err) != fail.Usage {
		t.Errorf("a directory: %v", err)
	}
}

// TestAStopSaysWhatItWaitsFor, once.
func TestAStopSaysWhatItWaitsFor(t *testing.T) {
	t.Run("clients", func(t *testing.T) { stopSays(t, "pid %d lets its clients finish", true) })
	t.Run("it does not say what", func(t *testing.T) { stopSays(t, "waiting for pid %d to end", false) })
}

func stopSays(t *testing.T, want string, answers bool) {
	path := filepath.Join(testbed.PublicDir(t), "m.pid")
	pid, clients := holding(t, path, "with clients")
	if answers {
		control, err := ListenControl(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer control.Close()
		go report(Report{PID: pid, Clients: forward.Stats{Working: 1}}).Answer(control) // ends with it
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	done := make(chan error)
	go func() { done <- stopRunning(parsed(t, "stop", "--pid-file", path)) }()
	words := bufio.NewReader(r)
	first, _ := words.ReadString('\n')
	clients.Close()
	err = <-done
	os.Stdout = stdout
	w.Close()
	rest, _ := io.ReadAll(words)
	if err != nil || first+string(rest) != fmt.Sprintf("minimail: "+want+"\nminimail is stopped: pid %d\n", pid, pid) {
		t.Errorf("%v: %s%s", err, first, rest)
	}
}

func TestSomebodyElsesMinimailIsNotHisToStopOrReplace(t *testing.T) {
	testbed.NeedRoot(t)
	path := filepath.Join(testbed.PublicDir(t), "m.pid")
	pid, _ := holding(t, path, "")
	want := fmt.Sprintf("0 cannot stop pid %d: it is not yours %d run it with sudo", pid, fail.NeedsRoot)
	if got := asUser(t, testbed.Intruder, "terminates", path); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l, err := ListenControl(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, word := range []string{"restart", "reload"} {
		want := fmt.Sprintf("cannot %s pid %d: it is not yours %d run it with sudo", word, pid, fail.NeedsRoot)
		if got := asUser(t, testbed.Intruder, "replaces", word, path, strconv.Itoa(pid)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if exists, now, running, err := Held(path); !exists || now != pid || !running || err != nil {
		t.Errorf("%v, %d, %v, %v", exists, now, running, err)
	}
	if got := asUser(t, testbed.Intruder, "status", path); !strings.HasSuffix(got, "\nRunning:     yes\nMore:        ask as root, or as the user that it runs as\n") {
		t.Errorf("status: %s", got)
	}
}

func init() {
	plays["terminates"] = func(args []string) int {
		pid, err := terminate(args[0])
		fmt.Printf("%d %v %d %s", pid, err, fail.Status(err), fail.HintOf(err))
		return 0
	}
	plays["replaces"] = func(args []string) int {
		s := parsed(new(testing.T), args[0], "--pid-file", args[1], "--log-file", "/l", "--host", "far")
		pid, _ := strconv.Atoi(args[2])
		err := replaceHolder(s, nil, args[1], pid)
		fmt.Printf("%v %d %s", err, fail.Status(err), fail.HintOf(err))
		return 0
	}
	plays["status"] = func(args []string) int {
		if err := Status(parsed(new(testing.T), "status", "--pid-file", args[0])); err != nil {
			fmt.Print(err)
		}
		return 0
	}
}
