package testbed

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A test that cannot run here is skipped, and says what it needs.

// NeedRoot is for a test that becomes other users, or makes namespaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
}

//go:embed needs.txt
var needs string

// NeedProgram is for a test that runs programs of this machine. sshd and the
// like need not be in an ordinary user's PATH.
func NeedProgram(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil || Exists("/usr/sbin/"+name) {
			continue
		}
		for l := range strings.Lines(needs) {
			if program, debian, _ := strings.Cut(strings.TrimSpace(l), " "); program == name {
				t.Skipf("needs %s: sudo apt install %s", name, debian)
			}
		}
		t.Skip("needs ", name)
	}
}

// Fetched is the place of something that scripts/test has fetched, because
// there is no network for tests.
func Fetched(t testing.TB, name string) string {
	t.Helper()
	file := filepath.Join(moduleRoot, ".fetched", name)
	if !Exists(file) {
		t.Skipf("needs %s: scripts/test -f fetches it", filepath.Join(".fetched", name))
	}
	return file
}

// Debs are Debian's packages of a name in debs.txt.
func Debs(t testing.TB, name string) (files []string) {
	t.Helper()
	NeedRoot(t)
	files, err := filepath.Glob(filepath.Join(Fetched(t, "debs/"+name), "*.deb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("packages: %v, %v", files, err)
	}
	return files
}

// Long is how often a test tries: a few times, or, if scripts/test -l asks for it
// by TEST_LONG, as often as it takes to be sure.
func Long(few, many int) int {
	if os.Getenv("TEST_LONG") != "" {
		return many
	}
	return few
}

// Unpacked is a directory with what the packages of a name in debs.txt hold.
func Unpacked(t testing.TB, name string) (dir string) {
	t.Helper()
	NeedProgram(t, "dpkg-deb")
	dir = PublicDir(t)
	for _, deb := range Debs(t, name) {
		Run(t, "dpkg-deb", "-x", deb, dir)
	}
	return dir
}
