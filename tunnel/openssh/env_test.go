package openssh

import (
	"os/exec"
	"strings"
	"testing"
)

func TestSSHGetsNothingThatIsOnlyForUs(t *testing.T) {
	for _, name := range []string{"MINIMAIL_HOST", "SUDO_USER", "SUDO_COMMAND", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET", "JOURNAL_STREAM", "GOCOVERDIR", "_GO_DAEMON"} {
		t.Setenv(name, "ours")
	}
	for _, name := range []string{"SSH_AUTH_SOCK", "LANG", "MY_MINIMAIL_HOST"} {
		t.Setenv(name, "theirs")
	}
	var theirs []string
	for _, kv := range Env() {
		name, value, _ := strings.Cut(kv, "=")
		if value == "ours" {
			t.Errorf("ssh gets %s", kv)
		}
		if value == "theirs" {
			theirs = append(theirs, name)
		}
	}
	if len(theirs) != 3 {
		t.Errorf("ssh gets only %q", theirs)
	}
}

func TestAnAccountWithoutAShellGetsOneForProxyCommand(t *testing.T) {
	for shell, want := range map[string]string{
		"/usr/sbin/nologin": "/bin/sh", "/bin/false": "/bin/sh", "/bin/bash": "/bin/bash", "/bin/sh": "/bin/sh", "/bin/no-such-shell": "/bin/sh",
	} {
		t.Setenv("SHELL", shell)
		cmd := exec.Command("/bin/sh", "-c", "printf %s \"$SHELL\"")
		cmd.Env = Env()
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s becomes %q (%v), want %q", shell, out, err, want)
		}
	}
}
