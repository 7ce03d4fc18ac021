package openssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ours are beginnings of what is only for us.
var ours = []string{"MINIMAIL_", "SUDO_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET", "JOURNAL_STREAM", "GOCOVERDIR", "_GO_DAEMON"}

// Env is the environment of ssh, and of what ssh_config's Match exec or a
// ProxyCommand runs: our own without what is only for us.
//
// They are run by $SHELL, which an account that nobody logs in to (nologin(8))
// does not really have, and another may have lost.
func Env() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return slices.ContainsFunc(ours, func(o string) bool { return strings.HasPrefix(kv, o) })
	})
	shell := os.Getenv("SHELL")
	if _, err := exec.LookPath(shell); err != nil || slices.Contains([]string{"nologin", "false"}, filepath.Base(shell)) {
		env = append(env, "SHELL=/bin/sh")
	}
	return env
}
