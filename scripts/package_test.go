package scripts_test

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// TestPackagesAreTheSameBytesAgain makes them a second time: elsewhere, by
// somebody with another umask and time zone, of files with other times.
func TestPackagesAreTheSameBytesAgain(t *testing.T) {
	nfpm := testbed.Fetched(t, "bin/nfpm")
	dir := t.TempDir()
	first, copied := filepath.Join(dir, "first"), filepath.Join(dir, "another place")
	t.Setenv("NFPM", nfpm)
	testbed.Run(t, "scripts/package", "-a", "amd64", "-o", first)
	deb, err := filepath.Glob(filepath.Join(first, "*.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("packages: %v, %v", deb, err)
	}
	version := strings.Split(filepath.Base(deb[0]), "_")[1]
	epoch := testbed.Run(t, "git", "log", "-1", "--format=%ct")
	testbed.Run(t, "sh", "-ec", `mkdir "$1"; tar -c --exclude=./.git --exclude=./.fetched --exclude=./dist . | tar -x -C "$1"`, "sh", copied)
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
		one, two := testbed.Read(t, filepath.Join(first, f.Name())), testbed.Read(t, filepath.Join(copied, "dist", f.Name()))
		if sha256.Sum256([]byte(one)) != sha256.Sum256([]byte(two)) {
			t.Errorf("%s differs: %d and %d bytes", f.Name(), len(one), len(two))
		}
	}
}

// TestLintianHasNothingToSay of errors and warnings.
func TestLintianHasNothingToSay(t *testing.T) {
	testbed.NeedProgram(t, "lintian")
	deb, _ := filepath.Glob(filepath.Join(testbed.Packages(t), "*.deb"))
	out, err := exec.Command("lintian", append([]string{"--allow-root", "--fail-on", "error,warning"}, deb...)...).CombinedOutput()
	if err != nil || regexp.MustCompile(`(?m)^[EW]: `).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheProgramInThePackageIsStaticAndKnowsItsVersion, so that it runs on any
// release of any distribution.
func TestTheProgramInThePackageIsStaticAndKnowsItsVersion(t *testing.T) {
	testbed.NeedProgram(t, "dpkg-deb", "readelf")
	deb, _ := filepath.Glob(filepath.Join(testbed.Packages(t), "*.deb"))
	dir := t.TempDir()
	testbed.Run(t, "dpkg-deb", "-x", deb[0], dir)
	bin := filepath.Join(dir, "usr/bin/minimail")
	if headers := testbed.Run(t, "readelf", "--program-headers", bin); strings.Contains(headers, "INTERP") {
		t.Error("it needs a dynamic linker")
	}
	want := "minimail " + strings.Split(filepath.Base(deb[0]), "_")[1] + "\n"
	if got := testbed.Run(t, bin, "--version"); got != want {
		t.Errorf("--version says %q, want %q", got, want)
	}
}
