package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/fail"
)

func TestAHintIsForTheErrorThatIsSaid(t *testing.T) {
	for _, c := range []struct{ args, says, hint string }{
		{"-p 22", "ssh's port is another option", "--ssh-option Port=22"},
		{"--idle x -p 22", "a time such as", ""},
		{"--protocol imap --forward 25", "smtp or tcp", ""},
		{"-l -", "minimail -X logs to stderr", ""},
		{"--ssh-config -", "expected a file, as ./-", ""},
	} {
		_, err := settingsFor(t, append([]string{"start", "--settings", os.DevNull, "--host", "far"}, strings.Fields(c.args)...)...)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "stderr") != strings.HasPrefix(c.args, "-l") {
			t.Errorf("%s: %v, want %s", c.args, err, c.says)
		}
		if h := fail.HintOf(err); !strings.HasPrefix(h, c.hint) || c.hint == "" && h != "" {
			t.Errorf("%s: hint %q, want %q", c.args, h, c.hint)
		}
	}
}

// TestNoneIsNoSSHConfig, as for ssh -F; a log or a pid file may have that name.
func TestNoneIsNoSSHConfig(t *testing.T) {
	s, err := settingsFor(t, "start", "--settings", os.DevNull, "--host", "far", "--ssh-config", "none", "-l", "none")
	if err != nil || s.SSHConfig != os.DevNull || !filepath.IsAbs(s.LogFile) {
		t.Errorf("%q, %q, %v", s.SSHConfig, s.LogFile, err)
	}
	if got := strings.Join(s.Given().Options, " "); !strings.Contains(got, "--ssh-config=none") || strings.Contains(got, "--log-file=none") {
		t.Errorf("a restart has %s", got)
	}
}
