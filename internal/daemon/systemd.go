package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// servicePidFile is that of scripts/minimail.service.
func servicePidFile() string { return filepath.Join(settings.RunDir(), "minimail", "minimail.pid") }

// serviceRuns reports whether the minimail that is meant is systemd's: stopped by
// us, it would be started again by the next client, or its socket would keep
// the port from the one that we start.
func serviceRuns(s settings.Settings) bool {
	if s.PidFileNamed || !booted() {
		return false
	}
	_, _, running, err := Held(servicePidFile())
	return err == nil && running && FindPidFile(s) == servicePidFile()
}

// isService reports whether a start means systemd's minimail: nothing but the
// settings file says anything, and the unit is installed.
func isService(s settings.Settings) bool {
	given := s.Given()
	delete(given.Environment, "SUDO_USER")
	if s.PidFileNamed || len(given.Options)+len(given.Environment) > 0 || !s.Has("host") || !booted() {
		return false
	}
	return slices.ContainsFunc([]string{"/etc", "/usr/local/lib", "/usr/lib", "/lib"}, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "systemd/system/minimail.service"))
		return err == nil
	})
}

// booted reports whether systemd has (sd_booted(3)).
func booted() bool { return settings.IsDir(filepath.Join(settings.RunDir(), "systemd", "system")) }

// bySystemd has systemd do what the word says to its minimail.
func bySystemd(s settings.Settings, word string) error {
	if said := s.Said(); len(said) > 0 && word != "stop" {
		return fail.Exit(fail.Hint(fmt.Errorf("it is systemd's, which knows no options: %s", strings.Join(said, " ")), "put them into %s, then: minimail %s", s.Editable(), word), fail.Usage)
	}
	argv := []string{"systemctl", word, "minimail.service"}
	if word == "stop" {
		argv = append(argv, "minimail.socket")
	}
	said := strings.Join(argv, " ")
	if os.Geteuid() != 0 {
		return fail.Exit(fail.Hint(fmt.Errorf("cannot %s the service: it is systemd's", word), "sudo %s", said), fail.NeedsRoot)
	}
	fmt.Printf("minimail: it is systemd's: %s\n", said)
	cmd := exec.Command(privdrop.Program(argv[0]), argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fail.Hint(fmt.Errorf("cannot %s the service: %w", word, err), "systemctl status minimail")
	}
	return nil
}

// orphanOf is whose child the daemon is that ExecReload= has started, until that
// one has ended.
const orphanOf = "_MINIMAIL_ORPHAN_OF"

// leaveToManager starts the daemon of an ExecReload= once more, and returns, so
// that it becomes a child of the service manager's. Of a MAINPID= that is not,
// systemd would not wait for the end when it is to stop: it sends KILL right after
// TERM, whatever clients are at work (service.c, service_enter_signal; kill_context).
func leaveToManager(s settings.Settings) error {
	os.Unsetenv("MAINPID")
	os.Setenv(orphanOf, strconv.Itoa(os.Getpid()))
	_, err := launch(s, os.Stdout)
	return err
}

// waitForManager is the other side of leaveToManager, which ends at once.
func waitForManager() {
	starter := os.Getenv(orphanOf)
	os.Unsetenv(orphanOf)
	for strconv.Itoa(os.Getppid()) == starter {
		time.Sleep(time.Millisecond)
	}
}
