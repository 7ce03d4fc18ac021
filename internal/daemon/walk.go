package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"minimail/internal/fail"
	"minimail/privdrop"
)

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
		w.ahead = append([]string{name}, w.ahead...) // that is as far as it goes
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
		if err := w.belongs(link, OwnerOf(fi)); err != nil {
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
	if err := w.belongs(dir, OwnerOf(fi)); err != nil {
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
		return exposed{fmt.Sprintf("%s belongs to %s", path, privdrop.Name(owner)), ""}
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
	if OwnerOf(fi) != w.uid || hasACL(dir) {
		return false
	}
	return privdrop.IsPrivate(int(fi.Sys().(*syscall.Stat_t).Gid), privdrop.Name(w.uid))
}

// rootsOwner is whom / belongs to: in a user namespace that has no root, that is
// what root is called there.
func rootsOwner() int {
	fi, err := os.Lstat("/")
	if err != nil {
		return 0
	}
	return OwnerOf(fi)
}

// OwnerOf is a file's uid.
func OwnerOf(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }
