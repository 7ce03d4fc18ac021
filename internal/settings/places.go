package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
)

// File is the settings file, whether it is there or not.
func (s Settings) File() string { return s.call.file }

// Editable is where to put a setting: the file that was read, if it is one.
func (s Settings) Editable() string {
	if fi, err := os.Stat(s.call.file); err == nil && !fi.Mode().IsRegular() {
		return defaultFile
	}
	return s.call.file
}

// defaultPlaces fills in where the pid file and the log are if nobody has said:
// root's places, or an ordinary user's (XDG Base Directory Specification).
func (s *Settings) defaultPlaces() error {
	// Only a daemon has a log file.
	logs := !s.Foreground && s.Word != "stop" && s.Word != "status" && s.Word != "check"
	if s.PidFile != "" && (s.LogFile != "" || !logs) {
		return nil
	}
	pids, log, err := places()
	if err != nil {
		return fail.Hint(fmt.Errorf("no place for the pid file and the log: %w", err), "--pid-file FILE --log-file FILE")
	}
	if s.PidFile == "" {
		s.PidFile = pids[0]
	}
	if s.LogFile == "" {
		s.LogFile = log
	}
	return nil
}

// DefaultLog is where a daemon logs to if nobody has said; "": nowhere.
func DefaultLog() string {
	_, log, _ := places()
	return log
}

// PidFiles are the default pid files, our own first, then where a minimail of
// ours has its own that was started in another environment: by cron, say, which
// knows no XDG_RUNTIME_DIR.
func (s Settings) PidFiles() []string {
	pids, _, err := places()
	if err != nil {
		return []string{s.PidFile}
	}
	return pids
}

// places are the default pid files, the first of which is the one to use, and
// the default log.
func places() (pids []string, log string, err error) {
	if os.Geteuid() == 0 {
		return []string{filepath.Join(RunDir(), "minimail.pid")}, "/var/log/minimail.log", nil
	}
	home, err := os.UserHomeDir()
	if err == nil && !filepath.IsAbs(home) {
		err = fmt.Errorf("$HOME, %q, does not begin with /", home)
	}
	var states []string
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // if not, the specification has us ignore it
		states = append(states, filepath.Join(dir, "minimail"))
	}
	if err == nil {
		states = append(states, filepath.Join(home, ".local", "state", "minimail"))
	}
	if len(states) == 0 {
		return nil, "", err
	}
	for _, dir := range slices.Concat(userRunDirs(), states) {
		pids = append(pids, filepath.Join(dir, "minimail.pid"))
	}
	return pids, filepath.Join(states[0], "minimail.log"), nil
}

// RunDir is where the system's pid files are (FHS 3.0, 3.15).
func RunDir() string {
	if IsDir("/run") {
		return "/run"
	}
	return "/var/run"
}

func userRunDirs() (dirs []string) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		dirs = append(dirs, dir)
	}
	if dir := fmt.Sprintf("/run/user/%d", os.Getuid()); IsDir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

// IsClosed reports whether a file or a directory is there that we may not read, or enter.
func IsClosed(name string) bool {
	need := uint32(unix.R_OK)
	if IsDir(name) {
		need = unix.X_OK
	}
	return errors.Is(unix.Access(name, need), fs.ErrPermission)
}

// IsDir reports whether name is a directory that is there.
func IsDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}
