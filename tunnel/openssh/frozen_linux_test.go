package openssh

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

const frozen = "UpdateHostKeys=no"

func TestKnownHostsOnAFileSystemThatCannotBeWrittenToAreLeftAlone(t *testing.T) {
	c := &Client{Command: Command{Program: "ssh", Host: "far"}}
	if home := os.Getenv("FROZEN_HOME"); home != "" { // we are the inner one
		t.Setenv("HOME", home)
		if !slices.Contains(options(c.Argv()), frozen) {
			t.Errorf("not told: %q", c.Argv())
		}
		for v, want := range map[Version]bool{{6, 7}: false, {6, 8}: true, {7, 0}: true} { // that has it
			if c := (&Client{Version: v, Command: c.Command}); slices.Contains(c.Ours(), frozen) != want {
				t.Errorf("OpenSSH %v: %q", v, c.Ours())
			}
		}
		return
	}
	t.Setenv("HOME", "") // nobody knows
	if slices.Contains(options(c.Argv()), frozen) {
		t.Errorf("of no home: %q", c.Argv())
	}
	t.Setenv("HOME", t.TempDir())
	if slices.Contains(options(c.Argv()), frozen) {
		t.Errorf("of a home that can be written to: %q", c.Argv())
	}
	if os.Geteuid() != 0 {
		t.Skip("a mount needs root")
	}
	home := t.TempDir()
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs -o ro none "$1" && exec "$2" -test.run "$3"`, "sh", home, os.Args[0], "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "FROZEN_HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
