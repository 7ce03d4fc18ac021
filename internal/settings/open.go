package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// ErrIrregular is about a file that is none on a disk: to read it could take for
// ever, or be possible only once.
var ErrIrregular = errors.New("it is no regular file")

// Open opens a file to be read, if it is a regular one. Those of /proc, some of which
// wait for something to be read, only look so.
func Open(name string) (*os.File, error) {
	if err := look(name); err != nil { // to open it could take for ever, too
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := isRegular(f.Stat()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// look is an error unless a file can be read more than once, and at once.
func look(name string) error {
	if real, err := filepath.EvalSymlinks(name); err == nil && strings.HasPrefix(real, "/proc/") {
		return ErrIrregular
	}
	return isRegular(os.Stat(name))
}

func isRegular(fi fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return syscall.EISDIR
	case !fi.Mode().IsRegular():
		return ErrIrregular
	}
	return nil
}

// passing are names of what whoever has called us has open, and the daemon has not.
var passing = regexp.MustCompile(`^/(dev/(stdin$|fd/)|proc/)`)

// isNull reports whether a file is /dev/null, which is as good as an empty one.
func isNull(name string) bool {
	fi, err := os.Stat(name)
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && nullErr == nil && os.SameFile(fi, null)
}

// open opens the settings file.
func open(name string) (*os.File, error) {
	switch {
	case isNull(name):
		return os.Open(os.DevNull)
	case passing.MatchString(name):
		return nil, ErrIrregular
	}
	return Open(name)
}
