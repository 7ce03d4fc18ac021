package scripts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// unpack unpacks the tar.gz, and returns scripts/install of it.
func unpack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tar, err := filepath.Glob(filepath.Join(testbed.Packages(t), "*-linux-amd64.tar.gz"))
	if err != nil || len(tar) != 1 {
		t.Fatalf("archives: %v, %v", tar, err)
	}
	testbed.Run(t, "tar", "-C", dir, "--strip-components=1", "-xzf", tar[0])
	return dir + "/scripts/install"
}

// local are the pids of what scripts/install has installed.
func local() []int { return testbed.CommandsWith("/usr/local/bin/minimail\x00") }

// TestAnInstallationWithoutAPackageCanBeUndone, and done again: what starts at
// boot, the settings and the log stay, until they are purged.
func TestAnInstallationWithoutAPackageCanBeUndone(t *testing.T) {
	t.Parallel()
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		before := allFiles(t)
		install := unpack(t)
		m.Run(t, 0, "SUDO_USER="+testbed.Owner, install)
		m.SetHost(t)
		m.Run(t, 0, "update-rc.d", "minimail", "defaults", "80")
		atBoot(t, m, "2", "S", "start")
		m.Sends(t)
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.Pid(t))); err != nil || !strings.HasSuffix(exe, "/usr/local/bin/minimail") {
			t.Errorf("running %s, %v", exe, err)
		}
		if unit := testbed.Read(t, "/usr/local/lib/systemd/system/minimail.service"); !strings.Contains(unit, "ExecStart=/usr/local/bin/minimail ") {
			t.Errorf("the unit starts another program:\n%s", unit)
		}
		settings, links := testbed.Read(t, testbed.SettingsFile), m.Links(t)
		m.Run(t, 0, install, "--uninstall")
		testbed.NoneIsLeft(t, local)
		atBoot(t, m, "2", "S", "start") // says and does nothing
		stays := []string{testbed.SettingsFile, "/var/log/minimail.log", "/etc/init.d/minimail", "/etc/systemd/system/minimail-by-update-rc.d.socket"}
		left := slices.DeleteFunc(changesSince(t, before), func(f string) bool {
			return slices.Contains(stays, f) || strings.HasPrefix(f, "/etc/rc") || isDirectory(f) && !strings.HasSuffix(f, "/minimail")
		})
		if len(left) > 0 {
			t.Errorf("left: %v", left)
		}

		m.Run(t, 0, "SUDO_USER="+testbed.Intruder, install)
		if got := m.Links(t); !slices.Equal(got, links) {
			t.Errorf("started at boot by %v, before that by %v", got, links)
		}
		if testbed.Read(t, testbed.SettingsFile) != settings {
			t.Error("the settings have changed")
		}
		atBoot(t, m, "2", "S", "start")
		m.Sends(t)
		m.Run(t, 0, install, "--purge")
		left = slices.DeleteFunc(changesSince(t, before), func(f string) bool {
			return isDirectory(f) && !strings.HasSuffix(f, "/minimail")
		})
		if len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		testbed.NoneIsLeft(t, local)
	})
}

// TestUninstallingStopsWhatRunsWithoutAServiceManager, whoever has started it.
func TestUninstallingStopsWhatRunsWithoutAServiceManager(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		for _, name := range []string{"service", "invoke-rc.d", "update-rc.d", "start-stop-daemon"} {
			m.Run(t, 0, "sh", "-c", "rm -f $(command -v "+name+")")
		}
		install := unpack(t)
		m.Run(t, 0, "SUDO_USER="+testbed.Owner, install)
		m.SetHost(t)
		m.Run(t, 0, "/usr/local/bin/minimail", "start")
		m.Run(t, 0, "su", testbed.Owner, "-c", "/usr/local/bin/minimail start --pid-file ~/pid --log-file ~/log --forward 2525:1026:localhost:25")
		if pids := local(); len(pids) != 2 {
			t.Fatalf("running: %v", pids)
		}
		m.Run(t, 0, install, "--uninstall")
		testbed.NoneIsLeft(t, local)
	})
}

// TestAPackageAndAnInstallationLeaveEachOtherAlone, whichever was first.
func TestAPackageAndAnInstallationLeaveEachOtherAlone(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		install := unpack(t)
		whole := func(when string) {
			t.Helper()
			if changed := m.Run(t, 0, "dpkg", "--verify", "minimail"); changed != "" {
				t.Errorf("%s, of the package are missing or changed:\n%s", when, changed)
			}
		}
		m.Install(t)
		m.SetHost(t)
		m.Run(t, 0, "update-rc.d", "minimail", "defaults", "80")
		links := m.Links(t)
		m.Run(t, 0, install)
		whole("after scripts/install")
		m.Run(t, 0, install, "--uninstall")
		whole("after scripts/install --uninstall")
		m.Run(t, 0, install)
		m.Run(t, 0, "dpkg", "--remove", "minimail")
		m.Run(t, 0, "/etc/init.d/minimail", "start") // the other one
		m.Sends(t)
		m.Install(t) // asks nothing
		whole("installed beside scripts/install")
		if pids := local(); len(pids) != 1 {
			t.Errorf("the other one's processes: %v", pids)
		}
		m.Run(t, 0, install, "--purge")
		whole("after scripts/install --purge")
		if got := m.Links(t); !slices.Equal(got, links) {
			t.Errorf("started at boot by %v, before that by %v", got, links)
		}
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		m.Sends(t)
		if pids := m.Daemons(); len(pids) != 1 {
			t.Errorf("the package's processes: %v", pids)
		}
	})
}

// TestInstallingNamesTheUserInSettingsThatWereThere, if nobody is named there:
// the README has the host written first.
func TestInstallingNamesTheUserInSettingsThatWereThere(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		install := unpack(t)
		for was, is := range map[string]string{
			"# mine\nMINIMAIL_HOST=far\n":     "# mine\nMINIMAIL_HOST=far\nSUDO_USER=me\n",
			"#SUDO_USER=you\nA=b\n":           "SUDO_USER=me\nA=b\n",
			"SUDO_USER=you\n":                 "SUDO_USER=you\n",
			"export MINIMAIL_USER='you' # \n": "export MINIMAIL_USER='you' # \n",
			"MINIMAIL_HOST: far\n":            "MINIMAIL_HOST: far\n", // wrong, and not ours to mend
		} {
			testbed.Write(t, testbed.SettingsFile, was)
			m.Run(t, 0, "SUDO_USER=me", install)
			if got := testbed.Read(t, testbed.SettingsFile); got != is {
				t.Errorf("of %q has become %q, want %q", was, got, is)
			}
		}
		for user, line := range map[string]string{
			`CORP\john`: `SUDO_USER='CORP\john'`, "jörg@corp": "SUDO_USER='jörg@corp'", "root": "", "it's": "", "a\nb": "",
		} {
			testbed.Write(t, testbed.SettingsFile, "MINIMAIL_HOST=far\n")
			m.Run(t, 0, "SUDO_USER="+user, install)
			if got := testbed.Read(t, testbed.SettingsFile); strings.TrimSpace(got) != strings.TrimSpace("MINIMAIL_HOST=far\n"+line) {
				t.Errorf("%q has made it %q", user, got)
			}
			if line == "" {
				continue
			}
			if got := m.Run(t, 0, "sh", "-c", "minimail settings MINIMAIL_USER 2>/dev/null"); got != user+"\n" {
				t.Errorf("minimail reads %q, want %q", got, user)
			}
		}
	})
}

func isDirectory(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}
