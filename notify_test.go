package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

func watching(t *testing.T) *startWatch {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	w, err := watchStart()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.close()
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return w
}

// child is a process that says nothing by itself.
func child(t *testing.T, argv ...string) *os.Process {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
	return cmd.Process
}

func TestStartWaitsForReadyAndPassesTheSentenceOn(t *testing.T) {
	w := watching(t)
	(&notifier{socket: w.socket()}).say("STATUS=not yet") // is no answer
	(&notifier{socket: w.socket()}).say("READY=1", "MAINPID=5", "STATUS=it runs: a=b")
	got, err := w.wait(child(t, "sleep", "1000"))
	if err != nil || got != "it runs: a=b" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStartDoesWithoutATMPDIRThatIsOfNoUse(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{long, filepath.Join(long, "missing")} {
		t.Setenv("TMPDIR", dir)
		w, err := watchStart()
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		w.close()
		if testbed.Exists(w.dir) {
			t.Errorf("left behind: %s", w.dir)
		}
	}
	if left, err := os.ReadDir(long); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestASignalBeforeThereIsADaemonEndsIt: it would run on otherwise, though start
// was stopped.
func TestASignalBeforeThereIsADaemonEndsIt(t *testing.T) {
	w := watching(t)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got, err := w.wait(child(t, "sleep", "1000")); err == nil || !strings.Contains(err.Error(), "hangup") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStartPassesTheDaemonsErrorAndExitStatusOn(t *testing.T) {
	for range 20 { // its word and its death come in any order
		w := watching(t)
		r, stdout, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("true")
		cmd.Stdout = stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stdout.Close()
		(&notifier{socket: w.socket()}).say("STATUS=cannot listen", "EXIT_STATUS=4")
		_, _ = io.Copy(io.Discard, r) // until it has ended
		r.Close()
		_, err = w.wait(cmd.Process)
		if err == nil || err.Error() != "cannot listen" || exitCode(err) != 4 {
			t.Fatalf("got %v, exit status %d", err, exitCode(err))
		}
	}
}

func TestADaemonThatDiesWithoutAWordIsNotWaitedFor(t *testing.T) {
	_, err := watching(t).wait(child(t, "sh", "-c", "exit 7"))
	if err == nil || !strings.Contains(err.Error(), "died before it was ready: exit status 7") || exitCode(err) != exitFailure {
		t.Errorf("got %v, exit status %d", err, exitCode(err))
	}
}

func TestTheStartsSocketIsEverybodysInADirectoryThatNobodyCanList(t *testing.T) {
	w := watching(t)
	for path, want := range map[string]os.FileMode{w.dir: 0o711, w.socket(): 0o666} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
}

func TestTheNameOfTheNotifySocketIsNotPassedOn(t *testing.T) {
	socket := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	n := newNotifier()
	if v, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Errorf("it is %q", v)
	}
	n.say("READY=1", "STATUS=x")
	if v, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Errorf("after a word it is %q", v)
	}
	buf := make([]byte, 100)
	if k, err := l.Read(buf); err != nil || string(buf[:k]) != "READY=1\nSTATUS=x" {
		t.Errorf("heard %q, %v", buf[:k], err)
	}
	new(notifier).say("READY=1") // nobody listens: no matter
}

func TestASignalToAWaitingStartEndsTheDaemon(t *testing.T) {
	w := watching(t)
	ignoreInterrupts(t)
	// The daemon signals start, again and again, as start may not be ready for
	// it yet; start then has to end it.
	c := child(t, "sh", "-c", `while kill -INT "$PPID"; do sleep 0.02; done`)
	_, err := w.wait(c)
	if err == nil || !strings.Contains(err.Error(), "stopped by a signal: interrupt") {
		t.Errorf("got %v", err)
	}
	if err := c.Signal(syscall.Signal(0)); err == nil {
		t.Error("the daemon still runs")
	}
}

// ignoreInterrupts keeps an interrupt from ending the test when start's own
// handler is not there yet; wait's gets it as well.
func ignoreInterrupts(t *testing.T) {
	t.Helper()
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	t.Cleanup(func() { signal.Stop(c) })
}
