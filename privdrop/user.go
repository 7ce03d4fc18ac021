package privdrop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A static binary reads /etc/passwd and /etc/group, and knows nothing of
// directory services (LDAP and the like). So it asks programs of the system
// that do, and ends those that give no answer: a service may be out of reach.
var patience = 10 * time.Second

// systemPath is where root finds programs. Root's PATH may be a user's, with a
// directory of his in it.
var systemPath = []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin",
	"/run/current-system/sw/bin", "/run/current-system/profile/bin"} // NixOS, Guix

// Program is where to find a program of the system's. Who is not root finds it
// by PATH, if there is one: a check that began as root's may have none.
func Program(name string) string {
	if os.Geteuid() != 0 && os.Getenv("PATH") != "" {
		return name
	}
	for _, dir := range systemPath {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return filepath.Join(systemPath[0], name) // is not there, which exec says
}

// errUnknown is about a user that nobody knows.
var errUnknown = errors.New("there is no such user")

// An Unknown is the name of a user that nobody knows.
type Unknown string

func (u Unknown) Error() string { return fmt.Sprintf("there is no user %q on this machine", string(u)) }

// Lookup finds a user by name. That there is none is an Unknown.
func Lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err == nil {
		return u, nil
	}
	f, err := getent(name)
	if errors.Is(err, errUnknown) {
		return nil, Unknown(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up the user %q: %w", name, err)
	}
	return &user.User{Username: f[0], Uid: f[2], Gid: f[3], Name: f[4], HomeDir: f[5]}, nil
}

// Name is the name of the user with an id, or the id if that cannot be had.
func Name(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	if f, err := getent(id); err == nil {
		return f[0]
	}
	return id
}

// getent asks getent(1) for the fields of a passwd(5) line.
func getent(nameOrID string) ([]string, error) {
	out, err := ask("getent", "passwd", "--", nameOrID)
	if err != nil {
		return nil, err
	}
	f := strings.Split(out, ":")
	if len(f) != 7 {
		return nil, errUnknown
	}
	return f, nil
}

// ask returns what a program says. That there is none, and that it fails, is as
// good as errUnknown; that it cannot be started now is not.
func ask(program string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, Program(program), arguments...)
	cmd.WaitDelay = 3 * time.Second // for what it may have started, which has its output
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s has not answered for %v", program, patience)
	case slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM}, func(e error) bool { return errors.Is(err, e) }):
		return "", fmt.Errorf("cannot run %s: %w", program, err)
	case err != nil && (!errors.Is(err, exec.ErrWaitDelay) || !strings.HasSuffix(string(out), "\n")): // half a line is no answer
		return "", errUnknown
	}
	return strings.TrimSpace(string(out)), nil
}

// shell is name's login shell, or /bin/sh as passwd(5) has it for an empty one.
func shell(name string) string {
	f := passwd(func(f []string) bool { return f[0] == name })
	if f == nil {
		f, _ = getent(name)
	}
	if f == nil || f[6] == "" {
		return "/bin/sh"
	}
	return f[6]
}

// passwd is the first entry of passwd(5) that is wanted, or nil.
func passwd(wanted func(fields []string) bool) []string {
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return nil
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if f := strings.Split(s.Text(), ":"); len(f) == 7 && wanted(f) {
			return f
		}
	}
	return nil
}

// IsPrivate reports whether a group has a user's name, and nobody else in it: no
// member, and nobody of passwd(5) whose own group it is.
func IsPrivate(gid int, username string) bool {
	id := strconv.Itoa(gid)
	out, err := ask("getent", "group", id)
	f := strings.Split(out, ":")
	if err != nil || len(f) != 4 || f[0] != username || f[3] != "" && f[3] != username {
		return false
	}
	return passwd(func(f []string) bool { return f[3] == id && f[0] != username }) == nil
}

func ids(u *user.User) (uid, gid int, groups []int, err error) {
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return
	}
	for _, s := range groupIDs(u) {
		g, err := strconv.Atoi(s)
		if err != nil {
			return 0, 0, nil, err
		}
		groups = append(groups, g)
	}
	return uid, gid, groups, nil
}

// groupIDs are those that id(1) knows. If it does not answer, they are those of
// /etc/group: to have too few is safe, and mail need not wait for a directory
// service.
func groupIDs(u *user.User) []string {
	if out, err := ask("id", "-G", "--", u.Username); err == nil && out != "" {
		return strings.Fields(out)
	}
	if all, err := u.GroupIds(); err == nil {
		return all
	}
	return []string{u.Gid}
}
