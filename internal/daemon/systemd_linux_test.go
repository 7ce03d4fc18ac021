package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// inWorld skips a test that changes /etc or /run, or mounts, if they are this
// machine's.
func inWorld(t *testing.T) {
	t.Helper()
	testbed.NeedRoot(t)
	if host, _ := os.Hostname(); host != "here" {
		t.Skip("needs a world of its own")
	}
}

// with is a file of the world, until the test ends.
func with(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
}

// underSystemd has systemd booted, with a systemctl that says what it is told.
func underSystemd(t *testing.T) {
	t.Helper()
	inWorld(t)
	with(t, "/run/systemd/system/here", "", 0o644)
	t.Cleanup(func() { _ = os.RemoveAll("/run/systemd") })
	const fake, real = "/run/current-system/sw/bin/systemctl", "/usr/bin/systemctl"
	with(t, fake, "#!/bin/sh\necho \"systemctl: $*\"\nexec test ! -e /run/broken\n", 0o755)
	if testbed.Exists(real) {
		if err := unix.Mount(fake, real, "", unix.MS_BIND, ""); err != nil {
			t.Skip("nothing can be mounted: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(real, unix.MNT_DETACH) })
	}
}

// plainly are the settings of a word without an option.
func plainly(t *testing.T, word string, options ...string) settings.Settings {
	t.Helper()
	s, err := settings.Parse(append(options, word), []settings.Word{{Name: word}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAStartIsSystemdsIfOnlyItsFileSaysAnything(t *testing.T) {
	underSystemd(t)
	if isService(plainly(t, "start", "--host", "far")) {
		t.Error("without a unit")
	}
	with(t, "/etc/default/minimail", "MINIMAIL_HOST=far\n", 0o644)
	if isService(plainly(t, "start")) {
		t.Error("without a unit, by its file")
	}
	with(t, "/etc/systemd/system/minimail.service", "", 0o644)
	for name, c := range map[string]struct {
		s    settings.Settings
		want bool
	}{
		"by its file": {plainly(t, "start"), true},
		"an option":   {plainly(t, "start", "-v"), false},
		"a pid file":  {plainly(t, "start", "-p", "/run/p.pid"), false},
	} {
		if got := isService(c.s); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	t.Setenv("SUDO_USER", "games") // sudo's own
	if !isService(plainly(t, "start")) {
		t.Error("not by sudo")
	}
	t.Setenv("MINIMAIL_IDLE", "5")
	if isService(plainly(t, "start")) {
		t.Error("with a setting of the environment")
	}
	t.Setenv("MINIMAIL_IDLE", "")
	with(t, "/etc/default/minimail", "MINIMAIL_HOST=far\nMINIMAIL_PID_FILE=/run/p.pid\n", 0o644)
	if isService(plainly(t, "start")) {
		t.Error("with a pid file of its own")
	}
	with(t, "/etc/default/minimail", "", 0o644)
	if isService(plainly(t, "status")) {
		t.Error("without a host")
	}
	with(t, "/etc/default/minimail", "MINIMAIL_HOST=far\n", 0o644)
	if err := os.RemoveAll("/run/systemd"); err != nil {
		t.Fatal(err)
	}
	if isService(plainly(t, "start")) {
		t.Error("without systemd")
	}
}

func TestSystemdDoesWhatIsSaidToItsMinimail(t *testing.T) {
	underSystemd(t)
	for word, want := range map[string]string{"start": "start minimail.service", "restart": "restart minimail.service", "stop": "stop minimail.service minimail.socket"} {
		var err error
		got := said(t, &os.Stdout, func() { err = bySystemd(plainly(t, "status"), word) })
		if want := "minimail: it is systemd's: systemctl " + want + "\nsystemctl: " + want + "\n"; err != nil || got != want {
			t.Errorf("%s: %v\n%swant\n%s", word, err, got, want)
		}
	}
	with(t, "/run/broken", "", 0o644)
	var err error
	_ = said(t, &os.Stdout, func() { err = bySystemd(plainly(t, "status"), "restart") })
	says(t, "one that fails", err, "cannot restart the service: exit status 1", "systemctl status minimail", fail.Failure)
	s := plainly(t, "start", "-v", "--host", "far")
	got := said(t, &os.Stdout, func() { err = bySystemd(s, "start") })
	says(t, "options", err, "it is systemd's, which knows no options: --host --verbose", "put them into "+s.Editable()+", then: minimail start", fail.Usage)
	if got != "" {
		t.Errorf("it is told: %s", got)
	}
	got = said(t, &os.Stdout, func() { err = bySystemd(s, "stop") })
	if err == nil || got != "minimail: it is systemd's: systemctl stop minimail.service minimail.socket\nsystemctl: stop minimail.service minimail.socket\n" {
		t.Errorf("a stop minds no option: %v\n%s", err, got)
	}
	for word, said := range map[string]string{"start": "sudo systemctl start minimail.service", "stop": "sudo systemctl stop minimail.service minimail.socket"} {
		if got, want := asUser(t, testbed.Intruder, "by-systemd", word), fmt.Sprintf("cannot %s the service: it is systemd's %d %s", word, fail.NeedsRoot, said); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func init() {
	plays["by-systemd"] = func(args []string) int {
		for _, name := range []string{"HOST", "PID_FILE", "LOG_FILE"} { // no options
			os.Setenv("MINIMAIL_"+name, "/f")
		}
		s, err := settings.Parse([]string{args[0], "--settings", os.DevNull}, []settings.Word{{Name: args[0]}})
		if err == nil {
			err = bySystemd(s, args[0])
		}
		fmt.Printf("%v %d %s", err, fail.Status(err), fail.HintOf(err))
		return 0
	}
}

// TestTheMinimailThatRunsIsSystemdsIfItHoldsItsPidFile, and nobody of ours runs.
func TestTheMinimailThatRunsIsSystemdsIfItHoldsItsPidFile(t *testing.T) {
	underSystemd(t)
	if serviceRuns(plainly(t, "status")) {
		t.Error("without a pid file")
	}
	if err := os.MkdirAll(filepath.Dir(servicePidFile()), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(servicePidFile())) })
	testbed.Write(t, servicePidFile(), "4194303")
	if serviceRuns(plainly(t, "status")) {
		t.Error("a dead one")
	}
	p, err := Lock(servicePidFile(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if !serviceRuns(plainly(t, "status")) || FindPidFile(plainly(t, "status")) != servicePidFile() {
		t.Errorf("not by its lock: %s", FindPidFile(plainly(t, "status")))
	}
	if serviceRuns(plainly(t, "status", "-p", servicePidFile())) {
		t.Error("of one that is named nothing is known but that file")
	}
	if got := StopOf(os.Getpid()); got != "minimail stop" {
		t.Errorf("it is stopped by %s", got)
	}
	err = nil
	got := said(t, &os.Stdout, func() { err = Stop(plainly(t, "stop")) })
	if want := "minimail: it is systemd's: systemctl stop minimail.service minimail.socket\nsystemctl: stop minimail.service minimail.socket\n"; err != nil || got != want {
		t.Errorf("stop: %v\n%s", err, got)
	}
	for word, replaces := range map[string]func(settings.Settings, Life) error{"restart": Restart, "reload": Reload} {
		s := plainly(t, word, "--user", testbed.RunAs)
		got := said(t, &os.Stdout, func() { err = replaces(s, nil) })
		if says(t, word, err, "it is systemd's, which knows no options: --user", "put them into "+s.Editable()+", then: minimail "+word, fail.Usage); got != "" {
			t.Errorf("%s: %s", word, got)
		}
		t.Setenv("MINIMAIL_USER", testbed.RunAs)
		got = said(t, &os.Stdout, func() { err = replaces(plainly(t, word), nil) })
		if want := "minimail: it is systemd's: systemctl " + word + " minimail.service\nsystemctl: " + word + " minimail.service\n"; err != nil || got != want {
			t.Errorf("%s: %v\n%s", word, err, got)
		}
		t.Setenv("MINIMAIL_USER", "xyzzy") // systemd would end the one that runs all the same
		got = said(t, &os.Stdout, func() { err = replaces(plainly(t, word), nil) })
		if err == nil || err.Error() != `there is no user "xyzzy" on this machine` || got != "" {
			t.Errorf("%s for nobody: %v\n%s", word, err, got)
		}
	}
	control, err := ListenControl(servicePidFile(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	go report(Report{}).Answer(control) // ends with it
	err = prepare(plainly(t, "start", "--host", "far"))
	says(t, "a start", err, fmt.Sprintf("already running, pid %d", os.Getpid()), "minimail status # tells more; minimail restart replaces it", fail.AlreadyRunning)
	mine, err := Lock("/run/minimail.pid", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Release()
	if serviceRuns(plainly(t, "status")) {
		t.Error("it is ours that is meant")
	}
}
