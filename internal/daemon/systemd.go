package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// servicePidFile is that of scripts/minimail.service.
func servicePidFile() string { return filepath.Join(settings.RunDir(), "minimail", "minimail.pid") }

// serviceRuns tells whether the minimail that is meant is systemd's: stopped by
// us, it would be started again by the next client, or its socket would keep
// the port from the one that we start.
func serviceRuns(s settings.Settings) bool {
	if s.PidFileNamed || !settings.IsDir(filepath.Join(settings.RunDir(), "systemd", "system")) { // sd_booted(3)
		return false
	}
	_, _, running, err := Held(servicePidFile())
	return err == nil && running && FindPidFile(s) == servicePidFile()
}

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
