package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// checkHome is about the user, his home and ~/.ssh.
func (c *checkup) checkHome() {
	me := fmt.Sprintf("%s, uid %d, home %s", daemon.UserName(), os.Getuid(), orElse(c.home, "unknown"))
	if !settings.IsDir(c.home) {
		// With a configuration of its own, ssh may do without.
		if c.SSHConfig != "" {
			c.add("user", well, me+" (not there; ssh reads "+c.SSHConfig+")")
			return
		}
		c.add("user", doubtful, me+", which is not there: ssh finds neither key nor known_hosts in it",
			"minimail check --user NAME # of somebody with a home; or --ssh-config FILE that names all files")
		return
	}
	c.add("user", well, me)
	faults, fixes := tooOpen(c.home, os.Getuid())
	switch {
	case len(faults) > 0:
		v := doubtful
		for _, f := range faults {
			if f.refused {
				v = broken
			}
		}
		c.add("~/.ssh", v, joinFaults(faults), fixes...)
	case !settings.IsDir(filepath.Join(c.home, ".ssh")) && c.SSHConfig == "":
		c.add("~/.ssh", doubtful, filepath.Join(c.home, ".ssh")+" is not there", c.byHand("mkdir", "-m", "700", filepath.Join(c.home, ".ssh")))
	default:
		c.add("~/.ssh", well, "nobody else can change it")
	}
}

// A fault is a file that others may change. If it is refused, ssh will not go
// on (readconf.c); others it merely should not trust.
type fault struct {
	text    string
	refused bool
}

func joinFaults(faults []fault) string {
	var all []string
	for _, f := range faults {
		all = append(all, f.text)
	}
	return strings.Join(all, "; ")
}

const othersWrite = 0o022

// tooOpen looks at what decides in a home who logs in where. A file that is
// not there is no fault.
func tooOpen(home string, uid int) (faults []fault, fixes []string) {
	dir := filepath.Join(home, ".ssh")
	for _, f := range []struct {
		path, chmod string
		config      bool
	}{
		{home, "go-w", false},
		{dir, "700", false},
		{filepath.Join(dir, "config"), "600", true},
		{filepath.Join(dir, "known_hosts"), "600", false},
	} {
		info, err := os.Stat(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			faults = append(faults, fault{fmt.Sprintf("cannot look at %s: %v", f.path, err), true})
			fixes = append(fixes, fail.Quote("sudo", "chown", "-R", fmt.Sprint(uid), dir))
			continue
		}
		if info.Mode().Perm()&othersWrite != 0 {
			faults = append(faults, fault{fmt.Sprintf("others can write to %s (mode %04o)", f.path, info.Mode().Perm()), f.config})
			fixes = append(fixes, fail.Quote("chmod", f.chmod, f.path))
		}
		if owner := daemon.OwnerOf(info); owner != uid && owner != 0 {
			faults = append(faults, fault{fmt.Sprintf("%s belongs to uid %d", f.path, owner), f.config})
			fixes = append(fixes, fail.Quote("sudo", "chown", fmt.Sprint(uid), f.path))
		}
	}
	return faults, fixes
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}
