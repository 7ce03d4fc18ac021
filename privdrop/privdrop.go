// Package privdrop gives up root, or single capabilities, for good.
package privdrop

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// To turns the process, all its threads, into the user called name: its
// supplementary groups, its group, its ids, and HOME, USER, LOGNAME and SHELL
// in the environment, of which little else is left: what root had there may be
// secrets, and the user's programs inherit it. It looks whether that is so, and
// tries to become root again; it is an error if it can. It must be called as
// root. After an error the process is in between and should exit.
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
	forget(uid)
	for k, v := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username, "SHELL": shell(name)} {
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("cannot set %s: %w", k, err)
		}
	}
	return nil
}

// harmless are the variables that stay, with LC_*. The last two say how to log:
// no-color.org; systemd.exec(5).
var harmless = []string{"PATH", "TERM", "LANG", "TZ", "NO_COLOR", "JOURNAL_STREAM"}

// forget takes all other variables out of the environment, but for an agent's
// socket that is the user's.
func forget(uid int) {
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case slices.Contains(harmless, name), strings.HasPrefix(name, "LC_"):
		case name == "SSH_AUTH_SOCK" && isOf(uid, value):
		default:
			os.Unsetenv(name)
		}
	}
}

func isOf(uid int, path string) bool {
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// verify is after uidswap.c of OpenSSH: look, then try the way back.
func verify(uid, gid int, groups []int) error {
	if now := [4]int{os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid()}; now != [4]int{uid, uid, gid, gid} {
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
