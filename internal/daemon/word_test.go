package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/fail"
)

// started is a child whose stdout and stderr are the pipe to start.
func started(t *testing.T, script string) (*starting, *os.Process) {
	t.Helper()
	s, pipe, err := newStarting(nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout, cmd.Stderr = pipe, pipe
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as go-daemon does
	err = cmd.Start()
	pipe.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close(); _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
	return s, cmd.Process
}

func TestStartWaitsForReadyAndPassesTheSentenceOn(t *testing.T) {
	s, child := started(t, `printf '\006it runs: a=b\n'; exec sleep 1000`)
	if got, err := s.wait(child); err != nil || got != "it runs: a=b" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestWhatIsSaidBeforeReadinessDoesNotHideIt: the runtime may have a warning.
func TestWhatIsSaidBeforeReadinessDoesNotHideIt(t *testing.T) {
	s, child := started(t, `echo 'warning: something'; printf '\006it runs\n'; exec sleep 1000`)
	if got, err := s.wait(child); err != nil || got != "it runs" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestADaemonsReadinessIsAByteInFrontOfItsSentence(t *testing.T) {
	s, pipe, err := newStarting(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	tell := &Teller{pipe: pipe}
	tell.Status("not yet") // is no answer
	tell.Ready("it runs")
	tell.failed(os.ErrInvalid) // too late for start
	if got, err := s.wait(nil); err != nil || got != "it runs" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestStartPassesTheDaemonsWordsAndExitStatusOn: what it prints is the message.
func TestStartPassesTheDaemonsWordsAndExitStatusOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = w
	s, child := started(t, `printf 'minimail: cannot \033[2Jlisten\nhint: x\n'; exit 4`)
	_, err = s.wait(child)
	os.Stderr = stderr
	w.Close()
	if err == nil || err.Error() != "" || fail.Status(err) != 4 {
		t.Errorf("got %v, exit status %d", err, fail.Status(err))
	}
	buf := make([]byte, 200)
	if n, _ := r.Read(buf); string(buf[:n]) != "minimail: cannot ?[2Jlisten\nhint: x\n" {
		t.Errorf("printed %q", buf[:n])
	}
}

func TestADaemonThatDiesWithoutAWordIsNotWaitedFor(t *testing.T) {
	for script, want := range map[string]string{
		"exit 7":     "died before it was ready: exit status 7",
		"exit 0":     "died before it was ready: exit status 0",
		"kill -9 $$": "died before it was ready: signal: killed",
	} {
		s, child := started(t, script)
		if _, err := s.wait(child); err == nil || !strings.Contains(err.Error(), want) || fail.Status(err) != fail.Failure {
			t.Errorf("%s: %v, exit status %d", script, err, fail.Status(err))
		}
	}
}

// TestASignalBeforeThereIsADaemonEndsIt: it would run on otherwise, though start
// was stopped.
func TestASignalBeforeThereIsADaemonEndsIt(t *testing.T) {
	s, child := started(t, "exec sleep 1000")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got, err := s.wait(child); err == nil || !strings.Contains(err.Error(), "hangup") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestASignalToAWaitingStartEndsTheDaemon(t *testing.T) {
	ignoreInterrupts(t)
	// The daemon signals start, again and again, as start may not be ready for
	// it yet; start then has to end it.
	s, c := started(t, `while kill -INT "$PPID"; do sleep 0.02; done`)
	_, err := s.wait(c)
	if err == nil || !strings.Contains(err.Error(), "stopped by a signal: interrupt") {
		t.Errorf("got %v", err)
	}
	if err := c.Signal(syscall.Signal(0)); err == nil {
		t.Error("the daemon still runs")
	}
}

// ignoreInterrupts keeps an interrupt from ending the tests when start's own
// handler is not there yet, or not any more; wait's gets it as well.
func ignoreInterrupts(t *testing.T) {
	t.Helper()
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
}

// listening is the other end of a NOTIFY_SOCKET.
func listening(t *testing.T) *net.UnixConn {
	t.Helper()
	socket := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	_ = l.SetReadDeadline(time.Now().Add(time.Minute))
	return l
}

func TestTheNameOfTheNotifySocketIsNotPassedOn(t *testing.T) {
	l := listening(t)
	tell := NewTeller()
	if v, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Errorf("it is %q", v)
	}
	tell.Status("x")
	if v, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Errorf("after a word it is %q", v)
	}
	buf := make([]byte, 100)
	if k, err := l.Read(buf); err != nil || string(buf[:k]) != "STATUS=x" {
		t.Errorf("heard %q, %v", buf[:k], err)
	}
	new(Teller).Ready("nobody listens: no matter")
}

// The service manager's reload is another one's child, whose status it is not.
func TestADaemonsExitStatusIsStartsButNotAReloads(t *testing.T) {
	for pid, want := range map[string]int{"": 3, "1": 1} {
		t.Setenv("MAINPID", pid)
		s, child := started(t, `echo 'minimail: no'; exit 3`)
		if _, err := s.wait(child); err == nil || err.Error() != "" || fail.Status(err) != want {
			t.Errorf("MAINPID=%q: %q, status %d, want %d", pid, err, fail.Status(err), want)
		}
	}
}

// TestWhoIsReplacedNamesTheOtherAndIsSilentThen, until it turns out to go on.
func TestWhoIsReplacedNamesTheOtherAndIsSilentThen(t *testing.T) {
	l := listening(t)
	tell := NewTeller()
	tell.Replaced(4711)
	tell.Status("nobody's")
	tell.Replaced(os.Getpid())
	tell.Status("ours again")
	for _, want := range []string{"MAINPID=4711", fmt.Sprintf("MAINPID=%d", os.Getpid()), "STATUS=ours again"} {
		buf := make([]byte, 100)
		if k, err := l.Read(buf); err != nil || string(buf[:k]) != want {
			t.Errorf("heard %q, %v, want %q", buf[:k], err, want)
		}
	}
}
