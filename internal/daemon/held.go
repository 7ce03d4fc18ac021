package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// Held looks at a pid file: whether it is there, the pid in it (0 if it has
// none), and whether the minimail that wrote it lives. It does so if it is there,
// is run by root or by the owner of the file, and holds the lock, as far as we
// may look at that.
func Held(path string) (exists bool, pid int, running bool, err error) {
	for {
		exists, pid, running, err = held(path)
		if !exists || running || err != nil {
			return
		}
		// It may have been passed on, and have ended, since its pid was read.
		if now, _, err := readPid(path); err != nil || now == pid {
			return exists, pid, false, nil
		}
	}
}

func held(path string) (exists bool, pid int, running bool, err error) {
	pid, owner, err := readPid(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, false, nil
	}
	if err != nil {
		wrong := isWrong(err)
		if err = fail.Read("cannot read the pid file", path, "--pid-file", err); wrong {
			err = fail.Exit(err, fail.Usage)
		}
		return true, 0, false, err
	}
	if pid == 0 || !isMinimail(pid, owner) {
		return true, pid, false, nil
	}
	place, err := Find(path, owner) // who can exchange the file can have anybody stopped
	if err != nil {
		return true, pid, false, fail.Hint(fmt.Errorf("cannot trust the pid file %s: %w", path, err), "pgrep -a minimail # finds it; kill PID stops it")
	}
	return true, pid, isLocked(place.real), nil
}

// readPid returns the pid in a file and whose file it is.
func readPid(path string) (pid, owner int, err error) {
	f, err := settings.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPidFile+1))
	return parsePid(string(text)), OwnerOf(fi), err
}

// parsePid is the pid in a file's first line, or 0 if that is empty or garbled. It
// is never init's.
func parsePid(text string) int {
	line, _, _ := strings.Cut(text, "\n")
	pid, err := strconv.ParseUint(strings.TrimSpace(line), 10, 31)
	if err != nil || pid < 2 || len(text) > maxPidFile {
		return 0
	}
	return int(pid)
}

// StopOf is the command that stops a minimail that may have another pid file than
// ours: one that it has open (proc_pid_fd(5)), as far as we may look.
func StopOf(pid int) string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	all, _ := os.ReadDir(dir)
	for _, fd := range all {
		path, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		if its, _, err := readPid(path); err != nil || its != pid {
			continue
		}
		command := []string{"minimail", "stop"}
		if path != servicePidFile() { // systemd's is found, and it is for systemd to stop it
			command = append(command, "--pid-file", path)
		}
		return fail.Quote(command...)
	}
	return fmt.Sprintf("kill %d", pid)
}

// isLocked reports whether somebody holds a pid file's lock; who may not open it
// has to take that for granted. A minimail of before there was such a file holds
// the pid file itself.
func isLocked(pidFile string) bool {
	f, err := open(lockFile(pidFile), unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = open(pidFile, unix.O_RDONLY, 0)
	}
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// FindPidFile is the pid file to look at: our own, or, if the user has not
// named one and nobody holds it, root's or that of the service manager's
// minimail, if somebody holds that.
func FindPidFile(s settings.Settings) string {
	return firstHeld(s, append(s.PidFiles(), filepath.Join(settings.RunDir(), "minimail.pid"), servicePidFile()))
}

// ownPidFile is the pid file of a minimail of ours. It may have been started
// where the environment was another one: by cron, without XDG_RUNTIME_DIR.
func ownPidFile(s settings.Settings) string { return firstHeld(s, s.PidFiles()) }

// firstHeld is the first of paths that somebody holds, unless the user has named
// one, or else the default.
func firstHeld(s settings.Settings, paths []string) string {
	if s.PidFileNamed {
		return s.PidFile
	}
	for _, path := range paths {
		if _, _, running, err := Held(path); err == nil && running {
			return path
		}
	}
	return s.PidFile
}
