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
	"minimail/privdrop"
)

// A Place is where a file of ours is, or is to be. Each directory on the way has
// been looked at, after safe_path of OpenSSH (misc.c): nobody but root and the
// user can change any of them, so what was seen stays so, and the path can be
// used. Where the user can change one, root must not: he could exchange it for
// another one between root's look and root's deed.
type Place struct {
	Users bool   // the user can change what is on the way: to be used when root is given up
	real  string // without links
	uid   int
}

// An exposed is about a directory, a link or a file that is not only ours.
type exposed struct{ why, mend string }

func (e exposed) Error() string { return e.why }

// Find looks at the way to path for the user uid. An error names what is wrong
// with it, for Unsafe to put into a sentence.
func Find(path string, uid int) (Place, error) {
	w := walk{uid: uid, at: "/", ahead: strings.Split(path, "/")}
	err := w.enter("/")
	for err == nil && len(w.ahead) > 0 {
		err = w.step()
	}
	if os.Geteuid() == 0 && errors.Is(err, fs.ErrPermission) {
		return Place{true, path, uid}, nil // a home where not even root may look: NFS, FUSE
	}
	return Place{w.users, w.at, uid}, err
}

// FindFor is Find for the user to become; nil: whoever we are.
func FindFor(path string, who *user.User) (Place, error) {
	uid, err := uidOf(who)
	if err != nil {
		return Place{}, err
	}
	return Find(path, uid)
}

func uidOf(who *user.User) (int, error) {
	if who == nil {
		return os.Getuid(), nil
	}
	return strconv.Atoi(who.Uid)
}

// Unsafe is what to say if a file that option names has no safe place, or if it
// cannot be opened there.
func Unsafe(doing, path, option string, err error) error {
	if e := (exposed{}); errors.As(err, &e) {
		return fail.Hint(fmt.Errorf("%s %s: %w", doing, path, err), "%s # or %s another FILE", e.mend, option)
	}
	return fail.Place(doing, path, option, err)
}

// A walk goes from / to a file.
type walk struct {
	uid    int
	at     string   // has no links
	ahead  []string // names still to be looked up from there
	users  bool     // the user can change something behind us
	sticky bool     // others can make entries in at; each is as good as its owner
	public bool     // everybody can
	links  int
}

// maxLinks is Linux' own limit, path_resolution(7).
const maxLinks = 40

// step takes the next name. A last one need not be there.
func (w *walk) step() error {
	name := w.ahead[0]
	w.ahead = w.ahead[1:]
	switch name {
	case "", ".":
		return nil
	case "..":
		return w.enter(filepath.Dir(w.at))
	}
	next := filepath.Join(w.at, name)
	fi, err := os.Lstat(next)
	switch {
	case err != nil && (len(w.ahead) > 0 || !errors.Is(err, fs.ErrNotExist)):
		return err
	case err == nil && fi.Mode()&fs.ModeSymlink != 0:
		return w.follow(next, fi)
	case len(w.ahead) == 0:
		w.at, w.users = next, w.users || w.public
		return nil
	}
	return w.enter(next)
}

// follow goes on where a link leads.
func (w *walk) follow(link string, fi fs.FileInfo) error {
	if w.links++; w.links > maxLinks {
		return syscall.ELOOP
	}
	if w.sticky { // elsewhere the directory's owner has made it, or could have
		if err := w.belongs(link, ownerOf(fi)); err != nil {
			return err
		}
	}
	to, err := os.Readlink(link)
	if err != nil {
		return err
	}
	w.ahead = slices.Concat(strings.Split(to, "/"), w.ahead)
	if filepath.IsAbs(to) {
		return w.enter("/")
	}
	return nil
}

// enter goes into a directory that nobody else can change.
func (w *walk) enter(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return syscall.ENOTDIR
	}
	if err := w.belongs(dir, ownerOf(fi)); err != nil {
		return err
	}
	others := fi.Mode().Perm() & 0o022
	sticky, system := fi.Mode()&fs.ModeSticky != 0, systemPlace(dir, fi)
	w.at, w.sticky, w.public = dir, others != 0 && (sticky || system), others&0o002 != 0
	switch {
	case others == 0, sticky, system:
		return nil
	case others == 0o020 && w.isPrivate(dir, fi):
		return nil
	}
	return exposed{"others can change " + dir, fail.Quote("chmod", "go-w", dir)}
}

// belongs is an error if something is neither root's nor the user's.
func (w *walk) belongs(path string, owner int) error {
	switch {
	case owner == w.uid && owner != 0:
		w.users = true
	case owner != 0 && owner != rootsOwner():
		return exposed{fmt.Sprintf("%s belongs to %s", path, privdrop.Name(owner)), fail.Quote("sudo", "chown", privdrop.Name(w.uid), path)}
	}
	return nil
}

// systemPlace reports whether a directory is the system's, and a group of the
// system's has been let into it: syslog into Ubuntu's /var/log, daemon into
// macOS' /var/run. What they make there is looked at as in /tmp.
func systemPlace(dir string, fi fs.FileInfo) bool {
	return fi.Mode().Perm()&0o002 == 0 && slices.Contains([]string{"/run", "/var/run", "/var/log", "/private/var/run", "/private/var/log"}, dir)
}

// isPrivate reports whether a directory of the user's can be changed only by his
// private group, which has his name and no other members (Debian's sshd takes
// that for safe as well; Ubuntu's umask is 002).
func (w *walk) isPrivate(dir string, fi fs.FileInfo) bool {
	if ownerOf(fi) != w.uid || hasACL(dir) {
		return false
	}
	g, err := user.LookupGroupId(strconv.Itoa(int(fi.Sys().(*syscall.Stat_t).Gid)))
	return err == nil && g.Name == privdrop.Name(w.uid)
}

// rootsOwner is whom / belongs to: in a user namespace that has no root, that is
// what root is called there.
func rootsOwner() int {
	fi, err := os.Lstat("/")
	if err != nil {
		return 0
	}
	return ownerOf(fi)
}

func ownerOf(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }

// Append opens the file for writing at its end. A file that is not there is made
// and, by root, given to the user. One that is there has to be a regular file of
// the user's without another name, or a device in a directory of root's. It
// never waits, and follows no link.
func (p Place) Append(mode uint32) (*os.File, error) {
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
	return isOwn(p.real, fi, p.uid)
}

// isOwn is an error unless a file is a regular one that belongs to one of
// owners, the first of whom should have it, and has no other name.
func isOwn(path string, fi fs.FileInfo, owners ...int) error {
	another := fail.Quote("ls", "-l", path)
	owner := ownerOf(fi)
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
