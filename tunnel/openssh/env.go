package openssh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ours are beginnings of what is only for us.
var ours = []string{"MINIMAIL_", "SUDO_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET", "GOCOVERDIR", "_GO_DAEMON"}

// harmless are the variables, and with a _ at the end beginnings of variables,
// of somebody else's that a user may see.
var harmless = []string{"PATH", "TERM", "LANG", "LC_", "TZ", "HOME", "USER", "LOGNAME", "SHELL"}

// Env is the environment of ssh, and of what ssh_config's Match exec or a
// ProxyCommand runs. That is our own without what is only for us. If root has
// been given up, what we have was root's, and only what is harmless stays, and
// the variables in also.
//
// They are run by $SHELL, which an account that nobody logs in to (nologin(8))
// does not really have.
func Env(dropped bool, also ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		if dropped {
			return !listed(name, harmless) && !slices.Contains(also, name)
		}
		return slices.ContainsFunc(ours, func(o string) bool { return strings.HasPrefix(name, o) })
	})
	switch filepath.Base(os.Getenv("SHELL")) {
	case "nologin", "false":
		env = append(env, "SHELL=/bin/sh")
	}
	return env
}

func listed(name string, list []string) bool {
	return slices.ContainsFunc(list, func(l string) bool {
		return name == l || strings.HasSuffix(l, "_") && strings.HasPrefix(name, l)
	})
}
