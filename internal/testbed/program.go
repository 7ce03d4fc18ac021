package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Program is the minimail that the tests run: the real thing, with the race
// detector if they have it, and counting coverage if scripts/test asks for it by
// TEST_COVERDIR.
var Program string

// Roles are what else a test binary can be, when TEST_ROLE asks for it, or when
// it is called by that name.
var Roles = map[string]func(args []string) int{"fake-server": fakeServer}

// programVariable names the program's directory for those whom a test's binary
// starts as itself once more: in a world of its own, and on a machine there.
const programVariable = "TEST_PROGRAM"

// Main is the TestMain of a package whose tests run the program. They run at
// the root of the module; as root in a world of their own, in which there are
// no accounts, settings, ports or networks of this machine.
func Main(m *testing.M) int { return mainIn(m, buildProgram) }

// InWorld is that of a package whose tests need the world, but no program.
func InWorld(m *testing.M) int { return mainIn(m, func() error { return nil }) }

func mainIn(m *testing.M, build func() error) int {
	passOnInterrupts()
	for _, name := range []string{os.Getenv("TEST_ROLE"), filepath.Base(os.Args[0])} {
		if role := Roles[name]; role != nil {
			status := role(os.Args[1:])
			_ = syscall.Close(2) // on which the coverage of a build for it would complain: the last word counts
			return status
		}
	}
	status, err := 1, toTheModulesRoot()
	if err == nil {
		status, err = inWorld(m.Run, build)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// passOnInterrupts has the programs that tests start heed INT, which a shell has
// ignored whatever it starts in the background. We ourselves do not heed it then.
func passOnInterrupts() {
	if signal.Ignored(syscall.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	}
}

// moduleRoot is the directory of go.mod.
var moduleRoot string

// toTheModulesRoot changes to it from a directory below.
func toTheModulesRoot() error {
	for {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		if _, err := os.Stat("go.mod"); err == nil {
			moduleRoot = dir
			return nil
		}
		if dir == "/" {
			return errors.New("the tests have to run in minimail's source")
		}
		if err := os.Chdir(".."); err != nil {
			return err
		}
	}
}

// inWorld makes a directory that everybody may read, has build put there what
// the tests need, first in PATH, and runs them in their world.
func inWorld(run func() int, build func() error) (status int, err error) {
	if dir := os.Getenv(programVariable); dir != "" {
		Program = filepath.Join(dir, "minimail")
		return inside(run)
	}
	tidyEnvironment()
	dir, err := os.MkdirTemp("", "minimail-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	Program = filepath.Join(dir, "minimail")
	if err := build(); err != nil {
		return 1, err
	}
	if err := noSudo(dir); err != nil {
		return 1, err
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	os.Setenv(programVariable, dir)
	return outside(dir, run)
}

// noSudo keeps an ordinary user's tests from asking for a password.
func noSudo(dir string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\necho 'tests ask nobody for root'\nexit 97\n"), 0o755)
}

func buildProgram() error {
	if built := os.Getenv("TEST_MINIMAIL"); built != "" { // scripts/mutate's
		b, err := os.ReadFile(built)
		if err != nil {
			return err
		}
		return os.WriteFile(Program, b, 0o755)
	}
	args := append([]string{"build", "-o", Program}, CoverFlags()...)
	if raced {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build minimail: %w\n%s", err, out)
	}
	return nil
}

// tidyEnvironment takes away what whoever runs the tests may have set for a
// minimail, an ssh or a person's language.
func tidyEnvironment() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "MINIMAIL_") || strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "SUDO_") {
			os.Unsetenv(name)
		}
	}
	for _, name := range []string{"XDG_RUNTIME_DIR", "XDG_STATE_HOME", "SSH_AUTH_SOCK", "NOTIFY_SOCKET", "LANGUAGE", "NO_COLOR", "CLICOLOR", "TZ"} {
		os.Unsetenv(name)
	}
	for name, value := range map[string]string{
		"LANG": "C.UTF-8",
		// The source may be somebody else's, whom git does not trust then.
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
	} {
		os.Setenv(name, value)
	}
	// The race detector's second of waiting at each exit of the program is long.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if dir := os.Getenv("TEST_COVERDIR"); dir != "" {
		// go test has a GOCOVERDIR of its own, which other users may not enter.
		os.Setenv("GOCOVERDIR", dir)
	}
	ownUmask()
}

// CoverFlags are for builds whose runs count as coverage.
func CoverFlags() []string {
	if os.Getenv("TEST_COVERDIR") == "" {
		return nil
	}
	return []string{"-cover", "-covermode=atomic", "-coverpkg=./..."} // the mode of -race
}
