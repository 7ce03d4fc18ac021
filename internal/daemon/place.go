package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// A Place is where a file of ours is, or is to be. Each directory on the way has
// been looked at, after safe_path of OpenSSH (misc.c): nobody but root and the
// user can change any of them, so what was seen stays so, and the path can be
// used. Where the user can change one, root must not: he could exchange it for
// another one between root's look and root's deed.
type Place struct {
	Users bool   // the user can change what is on the way: to be used when root is given up
	path  string // as it was named
	real  string // without links
	uid   int
}

// An exposed is about a directory, a link or a file that is not only ours; mend
// is a command, or "".
type exposed struct{ why, mend string }

func (e exposed) Error() string { return e.why }

// Find looks at the way to path for the user uid.
func Find(path string, uid int) (Place, error) {
	w := walk{uid: uid, at: "/", ahead: strings.Split(path, "/")}
	err := w.enter("/")
	for err == nil && len(w.ahead) > 0 {
		err = w.step()
	}
	if os.Geteuid() == 0 && errors.Is(err, fs.ErrPermission) {
		return Place{true, path, path, uid}, nil // a home where not even root may look: NFS, FUSE
	}
	return Place{w.users, path, filepath.Join(w.at, filepath.Join(w.ahead...)), uid}, err
}

// FindFor is Find for the user to become; nil: whoever we are.
func FindFor(path string, who *user.User) (Place, error) {
	uid, err := uidOf(who)
	if err != nil {
		return Place{}, err
	}
	return Find(path, uid)
}

// PidFilePlace is where the pid file can be, or says why it cannot be there.
func PidFilePlace(path string, who *user.User) (Place, error) {
	p, err := FindFor(path, who)
	if err == nil {
		err = unlessMissing(isPidFile(p.real, p.uid))
	}
	return p, about("cannot open the pid file", path, "--pid-file", p, err)
}

// LogPlace is where the log can be, or says why it cannot be there.
func LogPlace(path string, who *user.User) (Place, error) {
	if path == "/dev/stdout" || path == "/dev/stderr" {
		return Place{}, about("cannot open the log", path, "--log-file", Place{}, exposed{"a daemon has none", "minimail -X"})
	}
	p, err := FindFor(path, who)
	if err == nil {
		var fi fs.FileInfo
		if fi, err = os.Lstat(p.real); err == nil {
			err = p.takes(fi)
		}
		err = unlessMissing(err)
	}
	return p, about("cannot open the log", path, "--log-file", p, err)
}

// PidFileFits is an error if nobody's start can make the pid file. It changes nothing.
func PidFileFits(path string, who *user.User) error {
	p, err := PidFilePlace(path, who)
	if err != nil {
		return err
	}
	return about("cannot open the pid file", path, "--pid-file", p, frozen(filepath.Dir(p.real)))
}

// LogFits is the same of the log.
func LogFits(path string, who *user.User) error {
	p, err := LogPlace(path, who)
	if err != nil {
		return err
	}
	at := p.real
	if _, err := os.Lstat(at); err != nil {
		at = filepath.Dir(at)
	}
	return about("cannot open the log", path, "--log-file", p, frozen(at))
}

// frozen is an error if a file, or a directory, is on a read-only file system.
func frozen(at string) error {
	if err := unix.Access(at, unix.W_OK); errors.Is(err, unix.EROFS) {
		return err
	}
	return nil
}

// unlessMissing forgives a file that it is not there yet.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func uidOf(who *user.User) (int, error) {
	if who == nil {
		return os.Getuid(), nil
	}
	return strconv.Atoi(who.Uid)
}

// about is what to say about a file that option names, and that has no safe place
// at p or cannot be opened there.
func about(doing, path, option string, p Place, err error) error {
	if err == nil {
		return nil
	}
	e, missing, status := exposed{}, errors.Is(err, fs.ErrNotExist), 0
	unsafe := errors.As(err, &e)
	if isWrong(err) {
		status = fail.Usage
	}
	switch err = fail.File(doing, path, err); {
	case missing:
		err = fail.Hint(err, "%s # or %s another FILE", p.makeDirectory(), option)
	case errors.Is(err, fs.ErrPermission):
		err = fail.Hint(err, "run it with sudo, or %s a FILE where you may write", option)
	case errors.Is(err, unix.ENOSPC):
		dir := fail.Quote(filepath.Dir(path))
		err = fail.Hint(err, "df -h %s; df -i %s # one of them is full; or %s another FILE", dir, dir, option)
	case e.mend != "":
		err = fail.Hint(err, "%s # or %s another FILE", e.mend, option)
	case unsafe:
		err = fail.Hint(err, "%s a FILE where only root and minimail's user may write", option)
	default:
		err = fail.Hint(err, "%s another FILE", option)
	}
	return fail.Exit(err, status)
}

// isWrong reports whether it is the setting's fault that a file cannot be used: it
// names none that could be one of ours, whoever asks, and however long he waits.
func isWrong(err error) bool {
	return errors.As(err, new(exposed)) || slices.ContainsFunc([]error{settings.ErrIrregular, fs.ErrNotExist, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG},
		func(e error) bool { return errors.Is(err, e) })
}

// makeDirectory is the command that makes the missing directory of a file. Root's
// would be of no use to a user who is to make the file in it.
func (p Place) makeDirectory() string {
	dir := filepath.Dir(p.real)
	there, root := dir, os.Geteuid() == 0
	for _, err := os.Lstat(there); err != nil && there != "/"; _, err = os.Lstat(there) {
		there = filepath.Dir(there)
	}
	command := []string{"mkdir", "-p", dir}
	if root && p.Users || !root && unix.Access(there, unix.W_OK|unix.X_OK) != nil {
		command, root = []string{"install", "-d", "-o", privdrop.Name(p.uid), dir}, true
	}
	if root && (os.Geteuid() != 0 || os.Getenv("SUDO_UID") != "") { // no shell of root's reads the hint
		command = append([]string{"sudo"}, command...)
	}
	return fail.Quote(command...)
}

// Append opens the file for writing at its end. A file that is not there is made
// and, by root, given to the user. One that is there has to be a regular file of
// the user's without another name, or a device in a directory of root's. It
// never waits, and follows no link.
func (p Place) Append(mode uint32) (*os.File, error) {
	f, err := p.append(mode)
	return f, about("cannot open the log", p.path, "--log-file", p, err)
}

func (p Place) append(mode uint32) (*os.File, error) {
	fi, err := os.Lstat(p.real)
	if errors.Is(err, fs.ErrNotExist) {
		return p.create(mode)
	}
	if err != nil {
		return nil, err
	}
	if err := p.takes(fi); err != nil { // before it is opened: that alone may do something to a device
		return nil, err
	}
	f, err := open(p.real, unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if fi, err = f.Stat(); err == nil {
		err = p.takes(fi)
	}
	if err == nil {
		err = unix.SetNonblock(int(f.Fd()), false)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// create makes the file, which is then the user's.
func (p Place) create(mode uint32) (*os.File, error) {
	f, err := open(p.real, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && p.uid != 0 {
		if err := f.Chown(p.uid, -1); err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot give it to %s: %w", privdrop.Name(p.uid), err)
		}
	}
	return f, nil
}

// takes is an error unless a file that is there may be written to.
func (p Place) takes(fi fs.FileInfo) error {
	if fi.Mode()&fs.ModeCharDevice != 0 && !p.Users { // /dev/null
		return nil
	}
	err := isOwn(p.real, fi, p.uid)
	if e := (exposed{}); errors.As(err, &e) && p.real != filepath.Clean(p.path) {
		err = exposed{e.why, fail.Quote("ls", "-l", p.path)} // nobody is to be talked into giving away where a link leads
	}
	return err
}

// Apart is an error if the log of a pid file would be one of that one's own files.
func (p Place) Apart(log Place) error {
	if !slices.Contains([]string{p.real, lockFile(p.real), controlSocket(p.real)}, log.real) {
		return nil
	}
	return wrong(fmt.Errorf("cannot open the log %s: it is the pid file, or its lock or socket", log.path), "--log-file another FILE")
}

// isOwn is an error unless a file is a regular one that belongs to one of
// owners, the first of whom should have it, and has no other name.
func isOwn(path string, fi fs.FileInfo, owners ...int) error {
	another := fail.Quote("ls", "-l", path)
	owner := OwnerOf(fi)
	switch {
	case fi.IsDir():
		return syscall.EISDIR
	case !fi.Mode().IsRegular():
		return exposed{"it is no regular file", another}
	case fi.Sys().(*syscall.Stat_t).Nlink > 1:
		return exposed{"it has another name, a hard link", another}
	case !slices.Contains(owners, owner):
		return exposed{fmt.Sprintf("it belongs to %s, not to %s", privdrop.Name(owner), privdrop.Name(owners[0])),
			fail.Quote("sudo", "chown", privdrop.Name(owners[0]), path)}
	}
	return nil
}

// open is open(2) without links, waiting, terminals, and heirs.
func open(path string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
