package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// packagesVariable names the directory of the packages, for tests that run on a
// machine of their own.
const packagesVariable = "TEST_PACKAGES"

// Packages is a directory with all packages for amd64, made once.
func Packages(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(packagesVariable); dir != "" {
		return dir
	}
	made.Do(func() {
		made.dir = filepath.Join(filepath.Dir(Program), "packages")
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
