package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// TestCheckKnowsTheHomeOfAUserWithoutAnEnvironment, as that of env -i and of some
// launchers.
func TestCheckKnowsTheHomeOfAUserWithoutAnEnvironment(t *testing.T) {
	t.Parallel()
	m := testbed.NewHost(t).Prepare(t, testbed.MailServer(t, nil))
	c := runCheck(t, func(cmd *exec.Cmd) { cmd.Env = []string{"GOCOVERDIR=" + os.Getenv("GOCOVERDIR")} }, m.Cmd.Args[1:]...)
	c.says(t, "OK", "user", ", home /.*", "")
}

// TestCheckNamesAPlaceWhereNoFileCanBeMade: start would refuse it, and so does
// check, without making one.
func TestCheckNamesAPlaceWhereNoFileCanBeMade(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	m := testbed.NewHost(t).Prepare(t, testbed.MailServer(t, nil))
	dir := t.TempDir()
	for option, name := range map[string]string{"--pid-file": "m.pid", "--log-file": "m.log"} {
		file := filepath.Join(dir, name)
		c := runCheck(t, func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"unshare", "-m", "sh", "-c", `mount -t tmpfs -o ro none "$0" && exec "$@"`, dir}, cmd.Args...)
			cmd.Path = "/usr/bin/unshare"
		}, append(m.Cmd.Args[1:], option, file)...)
		c.exits(t, 2)
		c.says(t, "FAIL", "files", q(file+": read-only file system"), q(option+" another FILE"))
	}
}

// TestCheckNamesATmpInWhichNothingCanBeMade: what ssh says does not help there.
func TestCheckNamesATmpInWhichNothingCanBeMade(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	m := testbed.NewHost(t).Prepare(t, testbed.MailServer(t, nil))
	c := runCheck(t, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"unshare", "-m", "sh", "-c", `mount --bind /tmp /tmp && { test -z "$GOCOVERDIR" || mount --bind "$GOCOVERDIR" "$GOCOVERDIR"; } && mount -o remount,bind,ro /tmp && exec "$@"`, "sh"}, cmd.Args...)
		cmd.Path = "/usr/bin/unshare"
	}, m.Cmd.Args[1:]...)
	c.exits(t, 2)
	c.says(t, "FAIL", "files", "cannot make a private directory: .*read-only file system", "ls -ld /tmp; df /tmp #")
	c.says(t, "FAIL", "login", "not tried: see above", "")
}

// TestAStartThatFindsNoSpaceSaysHowToSeeIt, for /run may be full.
func TestAStartThatFindsNoSpaceSaysHowToSeeIt(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	m := testbed.NewHost(t).Prepare(t, testbed.MailServer(t, nil))
	dir := t.TempDir()
	start := append([]string{"-m", "sh", "-c", `mount -t tmpfs -o size=4k none "$0" && head -c 4096 /dev/zero >"$0/full" && exec "$@"`, dir}, m.Cmd.Args...)
	out, err := exec.Command("unshare", append(start, "--pid-file", filepath.Join(dir, "m.pid"))...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no space left on device\nhint: df -h "+dir+"; df -i "+dir+" # one of them is full") {
		t.Errorf("%v: %s", err, out)
	}
}
