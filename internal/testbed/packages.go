package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// packagesVariable names the directory of the packages, for tests that run on a
// machine of their own.
const packagesVariable = "TEST_PACKAGES"

// Packages is a directory with the .deb and the .tar.gz, made once.
func Packages(t testing.TB) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("needs a machine of amd64: the pages are about its package")
	}
	NeedProgram(t, "dpkg-deb")
	if dir := os.Getenv(packagesVariable); dir != "" {
		return dir
	}
	made.Do(func() {
		made.dir = filepath.Join(filepath.Dir(Program), "packages")
		out, err := exec.Command("scripts/package", "-a", "amd64", "-f", "deb", "-f", "tar.gz", "-o", made.dir).CombinedOutput()
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
