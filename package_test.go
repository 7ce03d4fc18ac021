package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// packagesVariable names the directory of the packages, for tests that run on a
// machine of their own.
const packagesVariable = "TEST_PACKAGES"

// packages is a directory with all packages for amd64, made once.
func packages(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(packagesVariable); dir != "" {
		return dir
	}
	made.Do(func() {
		made.dir = filepath.Join(filepath.Dir(program), "packages")
		out, err := exec.Command("scripts/package", "-a", "amd64", "-o", made.dir).CombinedOutput()
		if err != nil {
			made.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made.dir
}

var made struct {
	sync.Once
	dir string
	err error
}

// TestPackagesAreTheSameBytesAgain makes them a second time: elsewhere, by
// somebody with another umask and time zone, of files with other times.
func TestPackagesAreTheSameBytesAgain(t *testing.T) {
	first := packages(t)
	deb, err := filepath.Glob(filepath.Join(first, "*.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("packages: %v, %v", deb, err)
	}
	version := strings.Split(filepath.Base(deb[0]), "_")[1]
	epoch := command(t, "git", "log", "-1", "--format=%ct")
	copied := filepath.Join(t.TempDir(), "another place")
	command(t, "sh", "-c", `mkdir "$1" && cp -r *.go go.* *.md LICENSE docs scripts forward privdrop tunnel "$1"`, "sh", copied)
	cmd := exec.Command("sh", "-c", "umask 077; scripts/package -a amd64 -o dist")
	cmd.Dir = copied
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH="+strings.TrimSpace(epoch), "TZ=Asia/Tokyo")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := os.ReadDir(first)
	if err != nil || len(files) != 3 {
		t.Fatalf("made %v, %v; want a deb, an rpm and a tar.gz", files, err)
	}
	for _, f := range files {
		one, two := read(t, filepath.Join(first, f.Name())), read(t, filepath.Join(copied, "dist", f.Name()))
		if sha256.Sum256([]byte(one)) != sha256.Sum256([]byte(two)) {
			t.Errorf("%s differs: %d and %d bytes", f.Name(), len(one), len(two))
		}
	}
}

// TestLintianHasNothingToSay of errors and warnings.
func TestLintianHasNothingToSay(t *testing.T) {
	needProgram(t, "lintian")
	deb, _ := filepath.Glob(filepath.Join(packages(t), "*.deb"))
	out, err := exec.Command("lintian", append([]string{"--allow-root", "--fail-on", "error,warning"}, deb...)...).CombinedOutput()
	if err != nil || regexp.MustCompile(`(?m)^[EW]: `).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheProgramInThePackageIsStaticAndKnowsItsVersion, so that it runs on any
// release of any distribution.
func TestTheProgramInThePackageIsStaticAndKnowsItsVersion(t *testing.T) {
	needProgram(t, "dpkg-deb")
	deb, _ := filepath.Glob(filepath.Join(packages(t), "*.deb"))
	dir := t.TempDir()
	command(t, "dpkg-deb", "-x", deb[0], dir)
	bin := filepath.Join(dir, "usr/bin/minimail")
	if headers := command(t, "readelf", "--program-headers", bin); strings.Contains(headers, "INTERP") {
		t.Error("it needs a dynamic linker")
	}
	want := "minimail " + strings.Split(filepath.Base(deb[0]), "_")[1] + "\n"
	if got := command(t, bin, "--version"); got != want {
		t.Errorf("--version says %q, want %q", got, want)
	}
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip("needs ", name)
	}
}
