package openssh

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSSHGetsNothingThatIsOnlyForUs(t *testing.T) {
	for _, name := range []string{"MINIMAIL_HOST", "SUDO_USER", "SUDO_COMMAND", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET", "GOCOVERDIR", "_GO_DAEMON"} {
		t.Setenv(name, "ours")
	}
	for _, name := range []string{"SSH_AUTH_SOCK", "LANG", "MY_MINIMAIL_HOST"} {
		t.Setenv(name, "theirs")
	}
	var theirs []string
	for _, kv := range Env(false) {
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
		"/usr/sbin/nologin": "/bin/sh", "/bin/false": "/bin/sh", "/bin/bash": "/bin/bash", "/bin/sh": "/bin/sh",
	} {
		t.Setenv("SHELL", shell)
		cmd := exec.Command("/bin/sh", "-c", "printf %s \"$SHELL\"")
		cmd.Env = Env(false)
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s becomes %q (%v), want %q", shell, out, err, want)
		}
	}
}

func TestWhatWasRootsIsNotShownToTheUser(t *testing.T) {
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "LANGUAGE_OF_ROOT", "PATHS", "XDG_RUNTIME_DIR", "LCD", "MINIMAIL_HOST", "KEEP_ME"} {
		t.Setenv(name, "roots")
	}
	want := []string{"PATH", "TERM", "LANG", "LC_ALL", "LC_TIME", "TZ", "HOME", "USER", "LOGNAME", "SHELL"}
	for _, name := range want {
		t.Setenv(name, "theirs")
	}
	var got []string
	for _, kv := range Env(true, "KEEP_ME") {
		name, value, _ := strings.Cut(kv, "=")
		if value == "roots" && name != "KEEP_ME" {
			t.Errorf("ssh gets %s", kv)
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if want = append(want, "KEEP_ME"); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("ssh gets %q, want %q", got, want)
	}
	if all := Env(true); slices.Contains(all, "KEEP_ME=roots") {
		t.Error("ssh gets what nobody has asked for")
	}
}
