package privdrop

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// asRoot skips what only root can do.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give up root: run the tests as root as well")
	}
}

// openDir is a directory that everybody may use.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	for d := filepath.Dir(dir); d != "/"; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err != nil || info.Mode()&0o001 == 0 {
			t.Skipf("%s is closed to the user that the test becomes (%v): set TMPDIR to a place that is not", d, err)
		}
	}
	return dir
}

func numbers(words []string) (all []int) {
	for _, s := range words {
		n, err := strconv.Atoi(s)
		if err != nil {
			panic(err)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// table is a file such as /etc/passwd.
func table(t *testing.T, file string, fields int) (lines [][]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Split(s.Text(), ":"); len(w) == fields {
			lines = append(lines, w)
		}
	}
	return lines
}

// groupsOf is what /etc/group has for a user.
func groupsOf(t *testing.T, name, gid string) []int {
	t.Helper()
	words := []string{gid}
	for _, g := range table(t, "/etc/group", 4) {
		if slices.Contains(strings.Split(g[3], ","), name) {
			words = append(words, g[2])
		}
	}
	return numbers(words)
}

// users are nobody and, if there is one, somebody with supplementary groups.
func users(t *testing.T) (some [][]string) {
	t.Helper()
	rich := false
	for _, u := range table(t, "/etc/passwd", 7) {
		switch {
		case u[0] == "nobody":
			some = append(some, u)
		case !rich && u[2] != "0" && len(groupsOf(t, u[0], u[3])) > 1:
			some, rich = append(some, u), true
		}
	}
	if len(some) == 0 {
		t.Skip("this machine has no user nobody")
	}
	return some
}

func TestIdsThatAreNotThoseSetAreNoticed(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{verify(uid+1, gid, groups), "the ids are not those that were set"},
		{verify(uid, gid+1, groups), "the ids are not those that were set"},
		{verify(uid, gid, append(slices.Clone(groups), 65531)), "the groups are "},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("%v, not: %s", c.err, c.want)
		}
	}
}

func TestARootThatCouldBeHadBackIsNoticed(t *testing.T) {
	asRoot(t)
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(0, 0, groups); err == nil || err.Error() != "root could be had back" {
		t.Errorf("still root, and the error is %v", err)
	}
}
