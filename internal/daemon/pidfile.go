package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sevlyar/go-daemon"
	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// A PidFile is held, by a lock, as long as its process lives: the kernel lets
// go of it at any end, so the lock is what says whether minimail runs. The
// number in it is only for people, and for whom to signal.
type PidFile struct {
	lock *daemon.LockFile
	path string
}

// ErrRunning says that somebody holds the pid file.
type ErrRunning struct{ pid int }

func (e ErrRunning) Error() string {
	if e.pid == 0 {
		return "minimail is already starting"
	}
	return fmt.Sprintf("already running, pid %d", e.pid)
}

// Lock takes the pid file and writes our pid into it.
func Lock(path string) (*PidFile, error) {
	// Whoever only looks whether we run (Held, below) holds the lock for some
	// microseconds, and whoever ends removes the file: look more than once.
	for try := 0; ; try++ {
		p, err := tryLock(path)
		var running ErrRunning
		if err == nil && p != nil || err != nil && !errors.As(err, &running) {
			return p, err
		}
		if try == 50 || running.pid != 0 && isMinimail(running.pid) {
			return nil, running
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// maxPidFile is more than a pid file can have in it, in bytes: a larger one is
// somebody's file that was named by mistake, to be neither written nor removed.
const maxPidFile = 64

// tryLock returns nil and no error if the file was removed under our hands.
func tryLock(path string) (*PidFile, error) {
	lock, err := daemon.OpenLockFile(path, 0o644)
	if err != nil {
		return nil, fail.Place("cannot open the pid file", path, "--pid-file", err)
	}
	err = lock.Lock()
	if errors.Is(err, daemon.ErrWouldBlock) {
		pid, _ := lock.ReadPid()
		lock.Close()
		return nil, ErrRunning{pid}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot lock the pid file %s: %w", path, err)
	}
	if !sameFile(lock.File, path) {
		lock.Close()
		return nil, nil
	}
	if fi, err := lock.Stat(); err == nil && fi.Size() > maxPidFile {
		lock.Close()
		return nil, fail.Hint(fmt.Errorf("%s is no pid file: it has something else in it", path), "--pid-file another FILE")
	}
	if err := lock.WritePid(); err != nil {
		lock.Close()
		return nil, fail.Place("cannot write the pid file", path, "--pid-file", err)
	}
	return &PidFile{lock, path}, nil
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// Release removes the file. If the user that we have become may not do that,
// it empties it: an empty pid file means that nothing runs.
func (p *PidFile) Release() {
	removeSocket(controlSocket(p.path))
	_ = p.lock.Truncate(0)
	if sameFile(p.lock.File, p.path) {
		_ = os.Remove(p.path)
	}
	p.lock.Close()
}

// removeStale removes the pid file of a minimail that died, unless somebody
// has begun to use it.
func removeStale(path string) {
	if _, err := os.Stat(path); err != nil {
		return
	}
	if p, err := tryLock(path); err == nil && p != nil {
		p.Release()
	}
}

// Held looks at a pid file: whether it is there, the pid in it (0 if it has
// none), and whether the process that wrote it lives.
func Held(path string) (exists bool, pid int, running bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, false, nil
	}
	if err != nil {
		return true, 0, false, fail.Read("cannot read the pid file", path, "--pid-file", err)
	}
	defer f.Close()
	lock := daemon.NewLockFile(f)
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return true, 0, false, fmt.Errorf("cannot look at the lock of the pid file %s: %w", path, err)
	}
	running = err != nil
	if pid, err = lock.ReadPid(); err != nil || pid < 2 {
		pid = 0 // empty or garbled
	}
	return true, pid, running, nil
}

// isMinimail guards against a pid that has been given to somebody else. On
// systems without /proc the lock has to do.
func isMinimail(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return !settings.IsDir("/proc/self")
	}
	self, _ := os.ReadFile("/proc/self/comm")
	return string(comm) == string(self) || strings.HasPrefix(string(comm), "minimail")
}

// FindPidFile is the pid file to look at: our own, or, if the user has not
// named one and nobody holds it, root's or that of the service manager's
// minimail, if somebody holds that.
func FindPidFile(s settings.Settings) string {
	if s.PidFileNamed {
		return s.PidFile
	}
	for _, path := range []string{s.PidFile, filepath.Join(settings.RunDir(), "minimail.pid"), servicePidFile()} {
		if _, _, running, err := Held(path); err == nil && running {
			return path
		}
	}
	return s.PidFile
}
