package openssh

import (
	"os"
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
// does not really have.
func Env() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return slices.ContainsFunc(ours, func(o string) bool { return strings.HasPrefix(kv, o) })
	})
	switch filepath.Base(os.Getenv("SHELL")) {
	case "nologin", "false":
		env = append(env, "SHELL=/bin/sh")
	}
	return env
}
