package serve

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// newLogger writes one line per event to w.
func newLogger(s settings.Settings, w *os.File) zerolog.Logger {
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
		out = zerolog.ConsoleWriter{Out: w, TimeFormat: "2006-01-02 15:04:05.000", NoColor: !fail.Colour(w)}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}

// openLog makes the log our stdout and stderr, so that not even a panic is
// silent. Called by root, it hands the file over to owner.
func openLog(path string, owner *user.User) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fail.Place("cannot open the log", path, "--log-file", err)
	}
	defer f.Close()
	if err := handOver(f, owner); err != nil {
		return err
	}
	for _, fd := range []int{1, 2} {
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			return fmt.Errorf("cannot log to %s: %w", path, err)
		}
	}
	return nil
}

// handOver gives a regular file (not /dev/null, say) to owner, if there is one.
func handOver(f *os.File, owner *user.User) error {
	fi, err := f.Stat()
	if owner == nil || err != nil || !fi.Mode().IsRegular() {
		return err
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return fmt.Errorf("the uid of %s: %w", owner.Username, err)
	}
	if err := f.Chown(uid, -1); err != nil {
		return fmt.Errorf("cannot give the log to %s: %w", owner.Username, err)
	}
	return nil
}
