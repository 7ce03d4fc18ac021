package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// servicePidFile is that of scripts/minimail.service.
func servicePidFile() string { return filepath.Join(runDir(), "minimail", "minimail.pid") }

// serviceRuns tells whether the minimail that is meant is systemd's: stopped by
// us, it would be started again by the next client, or its socket would keep
// the port from the one that we start.
func (s settings) serviceRuns() bool {
	if s.pidFileNamed || !isDir(filepath.Join(runDir(), "systemd", "system")) { // sd_booted(3)
		return false
	}
	_, _, running, err := held(servicePidFile())
	return err == nil && running && s.findPidFile() == servicePidFile()
}

// bySystemd has systemd do what the word says to its minimail.
func bySystemd(word string) error {
	argv := []string{"systemctl", word, "minimail.service"}
	if word == "stop" {
		argv = append(argv, "minimail.socket")
	}
	said := strings.Join(argv, " ")
	if os.Geteuid() != 0 {
		return cli.Exit(hint(fmt.Errorf("cannot %s the service: it is systemd's", word), "sudo %s", said), exitNeedsRoot)
	}
	fmt.Printf("minimail: it is systemd's: %s\n", said)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return hint(fmt.Errorf("cannot %s the service: %w", word, err), "systemctl status minimail")
	}
	return nil
}
