// Package privdrop gives up root for good.
package privdrop

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// To turns the process, all its threads, into the user called name: its
// supplementary groups, its group, its ids, and HOME, USER, LOGNAME and SHELL
// in the environment. It then looks whether that is so and tries to become root
// again; it is an error if it can. It must be called as root. After an error
// the process is in between and should exit.
func To(name string) error {
	u, err := Lookup(name)
	if err != nil {
		return err
	}
	uid, gid, groups, err := ids(u)
	if err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	if uid == 0 {
		return fmt.Errorf("user %q is root: nothing would be given up", name)
	}
	// The order matters: once the uid is gone, nothing else may be changed
	// (setuid(2), setgroups(2)).
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("cannot set the groups of %q: %w", name, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("cannot become group %d of %q: %w", gid, name, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("cannot become user %q: %w", name, err)
	}
	if err := verify(uid, gid, groups); err != nil {
		return err
	}
	for k, v := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username, "SHELL": shell(name)} {
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("cannot set %s: %w", k, err)
		}
	}
	return nil
}

// Lookup finds a user by name: in /etc/passwd or, as a static binary does not
// know of directory services (LDAP and the like), with getent(1).
func Lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err == nil {
		return u, nil
	}
	f := getent(name)
	if f == nil {
		return nil, fmt.Errorf("there is no user %q on this machine", name)
	}
	return &user.User{Username: f[0], Uid: f[2], Gid: f[3], Name: f[4], HomeDir: f[5]}, nil
}

// getent returns the fields of name's passwd(5) line, or nil.
func getent(name string) []string {
	out, err := exec.Command("getent", "passwd", "--", name).Output()
	if err != nil {
		return nil
	}
	f := strings.Split(strings.TrimSpace(string(out)), ":")
	if len(f) != 7 {
		return nil
	}
	return f
}

// shell is name's login shell, or /bin/sh as passwd(5) has it for an empty one.
func shell(name string) string {
	f := passwd(name)
	if f == nil {
		f = getent(name)
	}
	if f == nil || f[6] == "" {
		return "/bin/sh"
	}
	return f[6]
}

func passwd(name string) []string {
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return nil
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if f := strings.Split(s.Text(), ":"); len(f) == 7 && f[0] == name {
			return f
		}
	}
	return nil
}

func ids(u *user.User) (uid, gid int, groups []int, err error) {
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return
	}
	names, err := u.GroupIds()
	if err != nil {
		names = []string{u.Gid} // a user that only getent knows
	}
	for _, s := range names {
		g, err := strconv.Atoi(s)
		if err != nil {
			return 0, 0, nil, err
		}
		groups = append(groups, g)
	}
	return uid, gid, groups, nil
}

// verify is after uidswap.c of OpenSSH: look, then try the way back.
func verify(uid, gid int, groups []int) error {
	if os.Getuid() != uid || os.Geteuid() != uid || os.Getgid() != gid || os.Getegid() != gid {
		return errors.New("the ids are not those that were set")
	}
	got, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("cannot read the groups: %w", err)
	}
	slices.Sort(got)
	slices.Sort(groups)
	if !slices.Equal(slices.Compact(got), slices.Compact(groups)) {
		return fmt.Errorf("the groups are %v, not %v", got, groups)
	}
	if syscall.Setuid(0) == nil || syscall.Setgid(0) == nil {
		return errors.New("root could be had back")
	}
	return nil
}
