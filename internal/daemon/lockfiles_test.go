package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// TestWhoHoldsALockWithoutAPidFileIsStillNamed, if it answers.
func TestWhoHoldsALockWithoutAPidFileIsStillNamed(t *testing.T) {
	pidFile, _, at := answering(t, report(Report{PID: 7}))
	if err := os.Remove(pidFile); err != nil { // by somebody
		t.Fatal(err)
	}
	_, err := Lock(pidFile, nil)
	says(t, "one that answers", err, "already running, pid 7", "its pid file was removed: kill 7; minimail start", fail.Failure)
	at.Close()
	_, err = Lock(pidFile, nil)
	says(t, "one that does not", err, "minimail is already starting", "", fail.Failure)
	if !errors.As(err, new(ErrRunning)) {
		t.Errorf("%T", err)
	}
}

func TestALockThatCannotBeIsNamedAsItsPidFileIs(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	at, link := filepath.Join(dir, "m.pid"), filepath.Join(testbed.PublicDir(t), "link")
	if err := os.Symlink(at, link); err != nil {
		t.Fatal(err)
	}
	lock := lockFile(at)
	for why, c := range map[string]struct {
		make   func() error
		mend   string
		status int
	}{
		"is a directory":     {func() error { return os.Mkdir(lock, 0o700) }, "", fail.Usage},
		"others can open it": {func() error { return os.WriteFile(lock, nil, 0o640) }, "sudo rm " + lock + " # or ", fail.Usage},
		"it belongs to daemon, not to root": {func() error {
			return errors.Join(os.WriteFile(lock, nil, 0o600), os.Chown(lock, testbed.UidOf(t, testbed.Intruder), -1))
		},
			"sudo chown root " + lock + " # or ", fail.Usage},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		_, err := Lock(at, nil)
		says(t, why, err, "cannot open the lock "+lock+": "+why, c.mend+"--pid-file another FILE", c.status)
		_, err = Lock(link, nil)
		says(t, why+", by a link", err, "cannot open the pid file "+link+": its lock "+lock+": "+why, c.mend+"--pid-file another FILE", c.status)
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(at+".new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(link, nil); err == nil || err.Error() != "cannot write the pid file "+link+": file exists" {
		t.Error(err)
	}
}

func TestAPidFileThatIsEmptiedIsNobodys(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	if err := p.pid.Truncate(0); err != nil { // as one does that ends
		t.Fatal(err)
	}
	if exists, pid, running, err := Held(path); !exists || pid != 0 || running || err != nil {
		t.Errorf("%v, %d, %v, %v", exists, pid, running, err)
	}
}

// Programs of old look for a lock of the pid file itself.
func TestThePidFileItselfIsLockedAsWell(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Error(err)
	}
}

func TestOnlyThePidFilesThatAreThereArePassedOn(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got, err := passedOn(path, p.files())
	if err != nil || got.path != path || got.lock != p.lock || got.pid != p.pid {
		t.Errorf("%+v, %v", got, err)
	}
	for _, files := range [][]*os.File{nil, {p.lock}, {p.pid, p.lock}, {p.lock, other}, {other, p.pid}, {p.lock, p.pid, other}} {
		got, err := passedOn(path, files)
		if says(t, fmt.Sprint(len(files)), err, "it has another pid file, or lock, than those that are there now", "minimail stop; minimail start", fail.Failure); got != nil {
			t.Errorf("%+v", got)
		}
	}
	other.Close()
	if sameFile(other, os.DevNull) {
		t.Error("a closed file is the same as any")
	}
}

func TestWhatADeadMinimailHasLeftIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	testbed.Write(t, path, "4194303")
	l, err := net.Listen("unix", controlSocket(path))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	removeStale(path)
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAPidFileMayBeFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	testbed.Write(t, path, strings.Repeat("1", maxPidFile))
	if err := isPidFile(path, os.Getuid()); err != nil {
		t.Error(err)
	}
	testbed.Write(t, path, strings.Repeat("1", maxPidFile+1))
	if err := isPidFile(path, os.Getuid()); err == nil {
		t.Error("a byte more is none of ours")
	}
}
