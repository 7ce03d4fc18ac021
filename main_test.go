package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is the minimail that the tests run: the real thing, built with the
// race detector, and counting coverage if scripts/test asks for it by
// TEST_COVERDIR.
var program string

// roles are what else the test binary can be, when TEST_ROLE asks for it.
var roles = map[string]func(args []string) int{}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("TEST_ROLE")]; role != nil {
		os.Exit(role(os.Args[1:]))
	}
	// The race detector's second of waiting at each exit of the program is long.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	// Tests of an ordinary user's places are the only ones to set these.
	for _, kv := range append(settingNames(), "XDG_RUNTIME_DIR", "XDG_STATE_HOME") {
		os.Unsetenv(kv)
	}
	os.Exit(withProgram(m.Run))
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
	program = filepath.Join(dir, "minimail")
	args := append([]string{"build", "-race", "-o", program}, coverFlags()...)
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

// coverFlags are for builds whose runs count as coverage.
func coverFlags() []string {
	if os.Getenv("TEST_COVERDIR") == "" {
		return nil
	}
	return []string{"-cover", "-covermode=atomic", "-coverpkg=./..."} // the mode of -race
}
