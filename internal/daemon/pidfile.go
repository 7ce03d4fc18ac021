package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
)

// A PidFile is held, by a lock, as long as its process lives: the kernel lets
// go of it at any end. The lock is on a file of its own beside it, which only
// root and the user can open: whoever can open a file, if only for reading, can
// lock it, and everybody may read the pid.
type PidFile struct {
	path string
	lock *os.File
	pid  *os.File
}

// ErrRunning says that somebody holds the pid file.
type ErrRunning struct{ pid int }

func (e ErrRunning) Error() string {
	if e.pid == 0 {
		return "minimail is already starting"
	}
	return fmt.Sprintf("already running, pid %d", e.pid)
}

// lockFile is where the lock of a pid file is.
func lockFile(pidFile string) string { return strings.TrimSuffix(pidFile, ".pid") + ".lock" }

// Lock takes the pid file for the user to become (nil: for ourselves), and
// writes our pid into it. It takes some seconds at most.
func Lock(path string, who *user.User) (*PidFile, error) {
	place, err := PidFilePlace(path, who)
	if err != nil {
		return nil, err
	}
	// Whoever only looks whether we run (Held, below) holds the lock for some
	// microseconds, and whoever ends removes the file: look more than once.
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		p, err := tryLock(place.real)
		if err == nil && p != nil {
			p.path = path
			if err := p.write(place); err != nil {
				return nil, err
			}
			return p, nil
		}
		var running ErrRunning
		if err != nil && !errors.As(err, &running) {
			if place.real != filepath.Clean(path) { // by a link
				return nil, about("cannot open the pid file", path+": its lock "+lockFile(place.real), "--pid-file", place, err)
			}
			return nil, about("cannot open the lock", lockFile(place.real), "--pid-file", place, err)
		}
		switch {
		case running.pid != 0:
			return nil, running
		case time.Since(began) > 4*afterKill: // a holder that was killed may vanish late
			if r, err := askControl(path); err == nil {
				return nil, fail.Hint(ErrRunning{r.PID}, "its pid file was removed: kill %d; minimail start", r.PID)
			}
			return nil, running
		}
	}
}

// tryLock returns nil and no error if the lock's file was removed under our
// hands.
func tryLock(pidFile string) (*PidFile, error) {
	path := lockFile(pidFile)
	f, err := open(path, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return nil, err
	}
	err = isLock(f)
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			_, pid, running, _ := Held(pidFile)
			if !running {
				pid = 0 // of one that has gone
			}
			err = ErrRunning{pid}
		}
	}
	if err != nil || !sameFile(f, path) {
		f.Close()
		return nil, err
	}
	return &PidFile{path: pidFile, lock: f}, nil
}

// isLock is an error if others could hold a lock on f.
func isLock(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := isOwn(f.Name(), fi, os.Geteuid(), 0); err != nil {
		return err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return exposed{"others can open it", fail.Quote("sudo", "rm", f.Name())}
	}
	return nil
}

// maxPidFile is more than a pid file can have in it, in bytes: a larger one is
// somebody's file that was named by mistake, to be neither written nor removed.
const maxPidFile = 64

// write makes a new pid file and puts it into the place of an old one, so that
// nobody ever reads half a pid, and nothing that is there is written to.
func (p *PidFile) write(place Place) (err error) {
	defer func() {
		if err != nil {
			p.unlock()
			err = about("cannot write the pid file", p.path, "--pid-file", place, err)
		}
	}()
	fresh := place.real + ".new"
	_ = os.Remove(fresh) // of one that was killed here
	if p.pid, err = open(fresh, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644); err != nil {
		return err
	}
	// Programs of old (pkill -L) look for a lock here. It means nothing to us.
	_ = unix.Flock(int(p.pid.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	_, err = fmt.Fprint(p.pid, os.Getpid())
	if err == nil {
		err = os.Rename(fresh, place.real)
	}
	if err != nil {
		_ = os.Remove(fresh)
		p.pid.Close()
	}
	return err
}

// isPidFile is an error unless a pid file is there, which may be root's.
func isPidFile(path string, uid int) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := isOwn(path, fi, uid, 0); err != nil {
		return err
	}
	if fi.Size() > maxPidFile || !isPidName(path) && hasText(path) {
		return exposed{"it is no pid file: it has something else in it", fail.Quote("ls", "-l", path)}
	}
	return nil
}

// isPidName reports whether a file's name says that it is a pid file: pid, x.pid.
func isPidName(path string) bool { return strings.HasSuffix("."+filepath.Base(path), ".pid") }

// hasText reports whether what is in a file is no pid: /etc/hostname named by
// mistake is short, too. A garbled file whose name says that it is a pid file is one.
func hasText(path string) bool {
	f, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxPidFile))
	return strings.Trim(string(text), "0123456789 \n\x00") != ""
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// files are what holds the pid file.
func (p *PidFile) files() []*os.File { return []*os.File{p.lock, p.pid} }

// passedOn is the pid file at path, by the files of the minimail that holds it.
func passedOn(path string, files []*os.File) (*PidFile, error) {
	if len(files) != 2 || !sameFile(files[0], lockFile(path)) || !sameFile(files[1], path) {
		return nil, fail.Hint(errors.New("it has another pid file, or lock, than those that are there now"), "minimail stop; minimail start")
	}
	return &PidFile{path: path, lock: files[0], pid: files[1]}, nil
}

// claim writes a pid into a pid file that is passed on. Whoever reads it reads
// one pid or the other: the first line counts.
func (p *PidFile) claim(pid int) error {
	text := strconv.Itoa(pid)
	_, err := p.pid.WriteAt([]byte(text+"\n"), 0)
	if err == nil {
		err = p.pid.Truncate(int64(len(text)))
	}
	return err
}

// Forget leaves the pid file to whom it was passed on.
func (p *PidFile) Forget() {
	for _, f := range p.files() {
		f.Close()
	}
}

// Release removes the file. If the user that we have become may not do that,
// it empties it: an empty pid file means that nothing runs.
func (p *PidFile) Release() {
	place, err := Find(p.path, os.Getuid())
	if err == nil && sameFile(p.pid, place.real) {
		removeSocket(controlSocket(place.real))
		_ = os.Remove(place.real)
	}
	p.path = place.real
	p.unlock()
	// Not before: whoever waits for our end takes an empty one for it, and wants
	// the lock. A successor has a file of its own.
	_ = p.pid.Truncate(0)
	p.pid.Close()
}

// unlock removes the lock, if we may.
func (p *PidFile) unlock() {
	if path := lockFile(p.path); sameFile(p.lock, path) {
		_ = os.Remove(path)
	}
	p.lock.Close()
}

// removeStale removes the pid file of a minimail that died, unless somebody
// has begun to use it. Root leaves those in a place of somebody else's alone:
// nothing runs, and the next start takes them.
func removeStale(path string) {
	place, err := Find(path, os.Getuid())
	if err != nil || isPidFile(place.real, os.Getuid()) != nil {
		return
	}
	p, err := tryLock(place.real)
	if err != nil || p == nil {
		return
	}
	if isPidFile(place.real, os.Getuid()) == nil {
		removeSocket(controlSocket(place.real))
		_ = os.Remove(place.real)
	}
	p.unlock()
}
