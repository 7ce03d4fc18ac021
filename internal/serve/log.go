package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"sync/atomic"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// A witness knows whether its last line has been written.
type witness struct {
	*os.File
	failed atomic.Pointer[error]
}

func (w *witness) Write(line []byte) (int, error) {
	n, err := w.File.Write(line)
	w.failed.Store(&err)
	return n, err
}

// why is what has become of the last line, or "" if it was written.
func (w *witness) why() string {
	err, errno := w.failed.Load(), syscall.Errno(0)
	if err == nil || !errors.As(*err, &errno) {
		return ""
	}
	return errno.Error()
}

// newLogger writes one line per event to w.
func newLogger(s settings.Settings, w *witness) zerolog.Logger {
	// Package zerolog's defaults: whole seconds, and complaints on stderr,
	// which is the log itself.
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.ErrorHandler = func(error) {}
	level := zerolog.InfoLevel
	if s.Verbose {
		level = zerolog.DebugLevel
	}
	var out io.Writer = w
	if !s.LogJSON {
		console := zerolog.ConsoleWriter{Out: w, TimeFormat: "2006-01-02 15:04:05.000", NoColor: !fail.Colour(w.File)}
		if isJournal(w.File) { // which has a time of its own, and takes the level from there
			console.PartsExclude, console.FormatLevel = []string{zerolog.TimestampFieldName}, priority
		}
		out = console
	}
	return zerolog.New(fail.JSONCleaner{To: out}).Level(level).With().Timestamp().Logger()
}

// isJournal reports whether w leads to systemd's journal (systemd.exec(5),
// $JOURNAL_STREAM).
func isJournal(w *os.File) bool {
	fi, err := w.Stat()
	if err != nil {
		return false
	}
	st := fi.Sys().(*syscall.Stat_t)
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// priority is a level as sd-daemon(3) wants it, and as we write it.
func priority(level any) string {
	switch level {
	case zerolog.LevelDebugValue:
		return "<7>DBG"
	case zerolog.LevelWarnValue:
		return "<4>WRN"
	case zerolog.LevelErrorValue:
		return "<3>ERR"
	}
	return "<6>INF"
}

// openLog makes the log our stdout and stderr, so that not even a panic is
// silent. Called by root, it makes the file one of who's.
func openLog(path string, who *user.User) error {
	place, err := daemon.LogPlace(path, who)
	if err != nil {
		return err
	}
	f, err := place.Append(0o640)
	if err != nil {
		return err
	}
	return logTo(f)
}

// logTo makes f our stdout and stderr, and closes it.
func logTo(f *os.File) error {
	defer f.Close()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			return fmt.Errorf("cannot log to %s: %w", f.Name(), err)
		}
	}
	return nil
}
