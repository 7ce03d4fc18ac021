package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Program is the minimail that the tests run: the real thing, built with the
// race detector, and counting coverage if scripts/test asks for it by
// TEST_COVERDIR.
var Program string

// Roles are what else a test binary can be, when TEST_ROLE asks for it, or when
// it is called by that name.
var Roles = map[string]func(args []string) int{"fake-server": fakeServer}

// Main is the TestMain of a package whose tests run the program. They run at
// the root of the module.
func Main(m *testing.M) int {
	for _, name := range []string{os.Getenv("TEST_ROLE"), filepath.Base(os.Args[0])} {
		if role := Roles[name]; role != nil {
			return role(os.Args[1:])
		}
	}
	// The race detector's second of waiting at each exit of the program is long.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	// Tests of an ordinary user's places are the only ones to set these.
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "MINIMAIL_") {
			os.Unsetenv(name)
		}
	}
	for _, name := range []string{"SUDO_USER", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"} {
		os.Unsetenv(name)
	}
	err := toTheModulesRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return withProgram(m.Run)
}

func toTheModulesRoot() error {
	for {
		if _, err := os.Stat("go.mod"); err == nil {
			return nil
		}
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		if dir == "/" {
			return fmt.Errorf("the tests have to run in minimail's source")
		}
		if err := os.Chdir(".."); err != nil {
			return err
		}
	}
}

// withProgram builds the program into a directory that everybody may read,
// first in PATH, for as long as f runs.
func withProgram(f func() int) int {
	dir, err := os.MkdirTemp("", "minimail-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	Program = filepath.Join(dir, "minimail")
	args := append([]string{"build", "-race", "-o", Program}, CoverFlags()...)
	if dir := os.Getenv("TEST_COVERDIR"); dir != "" {
		// go test has a GOCOVERDIR of its own, which other users may not enter.
		os.Setenv("GOCOVERDIR", dir)
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build minimail: %v\n%s", err, out)
		return 1
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return f()
}

// CoverFlags are for builds whose runs count as coverage.
func CoverFlags() []string {
	if os.Getenv("TEST_COVERDIR") == "" {
		return nil
	}
	return []string{"-cover", "-covermode=atomic", "-coverpkg=./..."} // the mode of -race
}
