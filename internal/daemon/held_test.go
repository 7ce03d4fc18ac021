package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func TestAPidIsTheFirstLineOfAFileOfABearableSize(t *testing.T) {
	for text, want := range map[string]int{
		"2": 2, "1": 0, "17\n9": 17, " 17 \n": 17, "2147483647": 2147483647, "2147483648": 0, "+5": 0,
		"17\n" + strings.Repeat("x", maxPidFile-3): 17,
		"17\n" + strings.Repeat("x", maxPidFile-2): 0,
	} {
		if got := parsePid(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	path := filepath.Join(t.TempDir(), "pid") // what is read shows that there is more
	testbed.Write(t, path, "17\n"+strings.Repeat("x", 2*maxPidFile))
	if pid, owner, err := readPid(path); pid != 0 || owner != os.Getuid() || err != nil {
		t.Errorf("pid %d, owner %d, %v", pid, owner, err)
	}
}

func TestAPidFilesOwnerIsReadWithIt(t *testing.T) {
	testbed.NeedRoot(t)
	path := filepath.Join(testbed.PublicDir(t), "pid")
	testbed.Write(t, path, "17")
	testbed.GiveTo(t, path, testbed.Intruder)
	if pid, owner, err := readPid(path); pid != 17 || owner != testbed.UidOf(t, testbed.Intruder) || err != nil {
		t.Errorf("pid %d, owner %d, %v", pid, owner, err)
	}
}

func TestAPidFileThatCannotBeReadSaysWhoCan(t *testing.T) {
	dir := t.TempDir()
	testbed.Write(t, filepath.Join(dir, "file"), "")
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{dir: "is a directory", filepath.Join(dir, "file", "pid"): "not a directory", loop: "too many levels of symbolic links"} {
		exists, pid, running, err := Held(path)
		if !exists || pid != 0 || running || err == nil || err.Error() != "cannot read the pid file "+path+": "+why {
			t.Errorf("%s: %v, %d, %v, %v", path, exists, pid, running, err)
		}
		if fail.Status(err) != fail.Usage || fail.HintOf(err) != "--pid-file another FILE" {
			t.Errorf("%s: status %d, hint %q", path, fail.Status(err), fail.HintOf(err))
		}
	}
}

// TestAPidFileThatOthersCanExchangeIsNotTrusted: it could name any process of ours.
func TestAPidFileThatOthersCanExchangeIsNotTrusted(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	dir := filepath.Dir(path)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	exists, pid, running, err := Held(path)
	if !exists || pid != os.Getpid() || running || err == nil || err.Error() != "cannot trust the pid file "+path+": others can change "+dir {
		t.Errorf("%v, %d, %v, %v", exists, pid, running, err)
	}
	if got := fail.HintOf(err); got != "pgrep -a minimail # finds it; kill PID stops it" || fail.Status(err) != fail.Failure {
		t.Errorf("hint %q, status %d", got, fail.Status(err))
	}
	if _, err := terminate(path); err == nil {
		t.Error("it is signalled all the same")
	}
	if pid := whoStays(path); pid != 0 {
		t.Errorf("pid %d stays", pid)
	}
	if got := firstHeld(parsed(t, "status"), []string{path}); got == path {
		t.Error("it is the one to look at")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// A minimail of before there was a lock file holds the pid file itself.
func TestTheLockIsInAFileOfItsOwnOrInThePidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	hold := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if isLocked(path) {
		t.Error("without any file")
	}
	old := hold(path)
	defer old.Close()
	if !isLocked(path) {
		t.Error("not by a lock of the pid file")
	}
	testbed.Write(t, lockFile(path), "")
	if isLocked(path) {
		t.Error("by a lock of the pid file, though there is a lock file")
	}
	defer hold(lockFile(path)).Close()
	if !isLocked(path) {
		t.Error("not by the lock file")
	}
}

func TestThePidFileToLookAtIsTheFirstThatSomebodyHolds(t *testing.T) {
	none := filepath.Join(t.TempDir(), "pid")
	a, first := lockedPidFile(t)
	defer a.Release()
	b, second := lockedPidFile(t)
	defer b.Release()
	s := parsed(t, "status")
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{nil, s.PidFile},
		{[]string{none}, s.PidFile},
		{[]string{none, first, second}, first},
		{[]string{second, first}, second},
	} {
		if got := firstHeld(s, c.paths); got != c.want {
			t.Errorf("%q: %s, want %s", c.paths, got, c.want)
		}
	}
	named := parsed(t, "status", "--pid-file", none)
	if got := firstHeld(named, []string{first}); got != none {
		t.Errorf("one that is named: %s", got)
	}
	if own, any := ownPidFile(named), FindPidFile(named); own != none || any != none {
		t.Errorf("one that is named: %s, %s", own, any)
	}
}

func TestWhoHasAnotherPidFileIsStoppedByIt(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	if got, want := StopOf(os.Getpid()), "minimail stop --pid-file "+path; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	sleep := exec.Command("sleep", "1000")
	sleep.ExtraFiles = []*os.File{p.pid} // with another one's pid in it
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	if got, want := StopOf(sleep.Process.Pid), fmt.Sprintf("kill %d", sleep.Process.Pid); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestALineOfAStatusHasAFirstWordOrNone(t *testing.T) {
	const status = "Name:\tsh\nState:\tZ (zombie)\nEmpty:\nBlank:\t \nUid:\t7\t8"
	for name, want := range map[string]string{"Name:": "sh", "State:": "Z", "Uid:": "7", "Empty:": "", "Blank:": "", "Gid:": ""} {
		if got, ok := statusField(status, name); got != want || ok != (want != "") {
			t.Errorf("%s %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestAMinimailIsKnownByItsProgramAndItsUser(t *testing.T) {
	if !settings.IsDir("/proc/self") {
		t.Skip("needs /proc")
	}
	dir, uid := testbed.PublicDir(t), os.Getuid()
	if uid == 0 {
		uid = testbed.UidOf(t, testbed.Intruder)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text := testbed.Read(t, sleep)
	for name, want := range map[string]bool{"minimail": true, "minimail-old": true, "minimal": false, "my-minimail": false} {
		program := filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "1000")
		cmd.Args[0] = "sleep" // some are many programs in one
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		for owner, mine := range map[int]bool{uid: true, 0: true, uid + 4711: false} {
			if got := isMinimail(pid, owner); got != (want && mine) {
				t.Errorf("%s, of %d: %v", name, owner, got)
			}
		}
		if err := os.Remove(program); err != nil { // by an upgrade
			t.Fatal(err)
		}
		if got := isMinimail(pid, 0); got != want {
			t.Errorf("%s, removed: %v", name, got)
		}
		_ = cmd.Process.Kill()
		testbed.Eventually(t, "it is a zombie", func() bool {
			state, _ := statusField(testbed.Read(t, "/proc/"+strconv.Itoa(pid)+"/status"), "State:")
			return state == "Z"
		})
		if isMinimail(pid, 0) {
			t.Errorf("%s: a zombie is one", name)
		}
		_ = cmd.Wait()
	}
}

func TestWhoRunsIsNamedIfThatIsKnown(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{{ErrRunning{}, "minimail is already starting"}, {ErrRunning{7}, "already running, pid 7"}} {
		err := AlreadyRunning(fmt.Errorf("%w", c.err))
		if err.Error() != c.want || fail.Status(err) != fail.AlreadyRunning || fail.HintOf(err) != "minimail status # tells more; minimail restart replaces it" {
			t.Errorf("%v, status %d, hint %q", err, fail.Status(err), fail.HintOf(err))
		}
	}
	if err := errors.New("x"); AlreadyRunning(err) != err || AlreadyRunning(nil) != nil {
		t.Errorf("other errors are changed")
	}
}
