package settings

import (
	"fmt"
	"os"
	"path/filepath"

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
	pid, log := filepath.Join(RunDir(), "minimail.pid"), "/var/log/minimail.log"
	if os.Geteuid() != 0 {
		home, err := os.UserHomeDir()
		if err == nil && !filepath.IsAbs(home) {
			err = fmt.Errorf("$HOME, %q, does not begin with /", home)
		}
		state := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) { // which the specification has us ignore
			if err != nil {
				return fail.Hint(fmt.Errorf("no place for the pid file and the log: %w", err), "--pid-file FILE --log-file FILE")
			}
			state = filepath.Join(home, ".local", "state")
		}
		log = filepath.Join(state, "minimail", "minimail.log")
		pid = filepath.Join(filepath.Dir(log), "minimail.pid")
		if run := userRunDir(); run != "" {
			pid = filepath.Join(run, "minimail.pid")
		}
	}
	if s.PidFile == "" {
		s.PidFile = pid
	}
	if s.LogFile == "" {
		s.LogFile = log
	}
	return nil
}

// RunDir is where the system's pid files are (FHS 3.0, 3.15).
func RunDir() string {
	if IsDir("/run") {
		return "/run"
	}
	return "/var/run"
}

func userRunDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir
	}
	if dir := fmt.Sprintf("/run/user/%d", os.Getuid()); IsDir(dir) {
		return dir
	}
	return ""
}

// IsDir reports whether name is a directory that is there.
func IsDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}
