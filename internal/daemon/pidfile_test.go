package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func lockedPidFile(t *testing.T) (*PidFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pid")
	p, err := Lock(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, path
}

func TestAPidFileIsHeldUntilItIsReleased(t *testing.T) {
	p, path := lockedPidFile(t)
	if got := testbed.Read(t, path); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("in it is %q, want our pid", got)
	}
	if exists, pid, running, err := Held(path); !exists || pid != os.Getpid() || !running || err != nil {
		t.Errorf("held: %v, %d, %v, %v", exists, pid, running, err)
	}
	var busy ErrRunning
	if _, err := Lock(path, nil); !errors.As(err, &busy) || busy.pid != os.Getpid() {
		t.Errorf("a second one gets %v", err)
	}
	p.Release()
	if exists, pid, running, err := Held(path); exists || pid != 0 || running || err != nil {
		t.Errorf("after it was released: %v, %d, %v, %v", exists, pid, running, err)
	}
	p, err := Lock(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
}

func TestWhoeverLooksAtAPidFileDoesNotKeepOthersFromTakingIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	testbed.Write(t, path, "4194303")
	done := make(chan struct{})
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-done:
				return
			default:
				_, _, _, _ = Held(path)
			}
		}
	}()
	for range 50 {
		p, err := Lock(path, nil)
		if err != nil {
			t.Error(err)
			break
		}
		p.Release()
	}
	close(done)
	<-looked
}

func TestTheNumberInAPidFileIsNoSignOfLife(t *testing.T) {
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	for text, want := range map[string]int{
		"":                              0,
		"rabbit":                        0,
		"-1":                            0,
		"0":                             0,
		"1":                             0, // init is never ours
		"99999999999999999999":          0,
		strconv.Itoa(os.Getpid()):       os.Getpid(),
		"4194303\n":                     4194303,
		strconv.Itoa(sleep.Process.Pid): sleep.Process.Pid,
	} {
		path := filepath.Join(t.TempDir(), "pid")
		testbed.Write(t, path, text)
		exists, pid, running, err := Held(path)
		if !exists || running || err != nil || pid != want {
			t.Errorf("%q: %v, %d, %v, %v, want pid %d", text, exists, pid, running, err, want)
		}
		p, err := Lock(path, nil)
		if err != nil {
			t.Errorf("%q blocks: %v", text, err)
			continue
		}
		if got := testbed.Read(t, path); got != strconv.Itoa(os.Getpid()) {
			t.Errorf("after %q it has %q", text, got)
		}
		p.Release()
	}
}

func TestALockOfThePidFileItselfMeansNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	testbed.Write(t, path, strconv.Itoa(sleep.Process.Pid))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, pid, running, err := Held(path); running || err != nil || pid != sleep.Process.Pid {
		t.Errorf("held: %d, %v, %v", pid, running, err)
	}
	if pid, err := terminate(path); err != nil {
		t.Errorf("terminate says %d, %v", pid, err)
	}
	_ = sleep.Process.Kill() // whose signal comes second, if it was told to stop
	_ = sleep.Wait()
	if by := sleep.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != syscall.SIGKILL {
		t.Errorf("the process was ended by %v", by)
	}
	p, err := Lock(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
}

// TestALockThatOthersCouldHoldIsRefused: whoever can open a file can lock it.
func TestALockThatOthersCouldHoldIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "minimail.pid")
	if err := os.WriteFile(lockFile(path), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Lock(path, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot open the lock "+lockFile(path)+": others can open it") || !strings.HasPrefix(fail.HintOf(err), "sudo rm "+lockFile(path)) {
		t.Errorf("%v, hint %q", err, fail.HintOf(err))
	}
}

func TestAStalePidFileIsRemovedAndAMissingOneNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	removeStale(path)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("there is one: %v", err)
	}
	testbed.Write(t, path, "4194303")
	removeStale(path)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAFileThatIsNoPidFileIsNeitherWrittenNorRemoved(t *testing.T) {
	for name, text := range map[string]string{
		"diary.pid": strings.Repeat("Today the power has failed.\n", 10),
		"hostname":  "here\n",
		"stupid":    "here\n",
		"version":   "12.9\n",
	} {
		path := filepath.Join(t.TempDir(), name)
		testbed.Write(t, path, text)
		if _, err := Lock(path, nil); err == nil || !strings.Contains(err.Error(), path+": it is no pid file") {
			t.Errorf("%s is taken: %v", name, err)
		}
		removeStale(path)
		if got := testbed.Read(t, path); got != text {
			t.Errorf("in %s is %q", name, got)
		}
	}
}

// TestWhoeverWaitsForAnEndLooksNowAndThen: the time of a bubble goes on only
// while it sleeps.
func TestWhoeverWaitsForAnEndLooksNowAndThen(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	synctest.Test(t, func(t *testing.T) {
		pid, err := waitForEnd(path, os.Getpid())
		if want := fmt.Sprintf("kill -9 %d # with sudo, if it is not yours; its ssh goes with it", pid); pid != os.Getpid() || fail.HintOf(err) != want {
			t.Errorf("pid %d, %v, %q", pid, err, fail.HintOf(err))
		}
	})
}

func TestReleaseLeavesTheFileOfASuccessorAlone(t *testing.T) {
	p, path := lockedPidFile(t)
	for _, f := range []string{path, lockFile(path)} { // by somebody's rm
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	next, err := Lock(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
	if got := testbed.Read(t, path); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("in the successor's file is %q", got)
	}
	if _, _, running, _ := Held(path); !running {
		t.Error("the successor has lost its lock")
	}
	next.Release()
}

func TestThePidFileOfOneThatWasKilledWhileItWroteIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	testbed.Write(t, path+".new", "12")
	p, err := Lock(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if got := testbed.Read(t, path); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("it has %q", got)
	}
}

func TestAPidFileThatCannotBeIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "missing", "pid"), dir} {
		if _, err := Lock(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "pid.new", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(filepath.Join(dir, "pid"), nil); err == nil || !strings.Contains(err.Error(), "cannot write") {
		t.Errorf("one that cannot be written: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "pid.lock")); err == nil {
		t.Error("the lock of one that cannot be written is left over")
	}
	if _, _, _, err := Held(filepath.Join(dir, "missing", "pid")); err != nil {
		t.Errorf("one that is not there is none: %v", err)
	}
}

func TestOnlyAProcessOfThisProgramIsAMinimail(t *testing.T) {
	if !isMinimail(os.Getpid(), os.Getuid()) {
		t.Error("we are none")
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if isMinimail(sleep.Process.Pid, os.Getuid()) && settings.IsDir("/proc/self") {
		t.Error("sleep is one")
	}
	_ = sleep.Process.Kill()
	_ = sleep.Wait()
	if isMinimail(sleep.Process.Pid, os.Getuid()) && settings.IsDir("/proc/self") {
		t.Error("nobody is one")
	}
}

// TestAFileThatWasRemovedUnderOurHandsIsNotHeld: one takes the lock of the file
// that another one is just removing.
func TestAFileThatWasRemovedUnderOurHandsIsNotHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := 0; n < 40; {
				p, err := Lock(path, nil)
				if errors.As(err, new(ErrRunning)) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !sameFile(p.pid, path) {
					t.Error("held is a file that is not there")
					n = 40
				}
				p.Release()
				n++
			}
		})
	}
	all.Wait()
}

// TestThePidOfOneThatHasGoneIsNotSaidToRun: it may hold its lock a little longer,
// and whoever looks holds it for a moment.
func TestThePidOfOneThatHasGoneIsNotSaidToRun(t *testing.T) {
	p, path := lockedPidFile(t)
	testbed.Write(t, path, "4194303")
	var busy ErrRunning
	if _, err := tryLock(path); !errors.As(err, &busy) || busy.pid != 0 {
		t.Errorf("got %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		go func() { defer close(gone); time.Sleep(time.Second); p.lock.Close() }()
		next, err := Lock(path, nil)
		<-gone
		if err != nil {
			t.Fatal(err)
		}
		next.Release()
	})
}

// TestOneThatIsStoppingIsWaitedFor, as it answers until it has ended.
func TestOneThatIsStoppingIsWaitedFor(t *testing.T) {
	asked := make(chan bool, 1000)
	path, held, _ := answering(t, Control{Report: func() Report { asked <- true; return Report{Stopping: true} }})
	gone := make(chan struct{})
	go func() { defer close(gone); <-asked; <-asked; held.Release() }()
	if pid := whoStays(path); pid != 0 {
		t.Errorf("pid %d stays", pid)
	}
	<-gone
}

func TestAHolderThatIsGoingDoesNotBlockAStart(t *testing.T) {
	for range 50 { // often it is still there at the first look
		p, path := lockedPidFile(t)
		synctest.Test(t, func(t *testing.T) { // whose time waits for it
			gone := make(chan struct{})
			go func() { defer close(gone); p.Release() }()
			if pid := whoStays(path); pid != 0 {
				t.Fatalf("pid %d stays", pid)
			}
			<-gone
		})
	}
	p, path := lockedPidFile(t)
	defer p.Release()
	if pid := whoStays(path); pid != os.Getpid() {
		t.Errorf("pid %d stays, want ours", pid)
	}
	if pid := whoStays(filepath.Join(t.TempDir(), "missing")); pid != 0 {
		t.Errorf("pid %d stays without a file", pid)
	}
}
