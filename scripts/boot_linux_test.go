package scripts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// allFiles are all files of the machine, by name, with size and time; but for what
// dpkg notes for itself.
func allFiles(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, l := range strings.Split(testbed.Run(t, "find", "/etc", "/home", "/opt", "/run", "/usr", "/var", "-type", "d",
		"-printf", "%p\\tdirectory\\n", "-o", "-printf", "%p\\t%M %U %s %T@\\n"), "\n") {
		name, what, _ := strings.Cut(l, "\t")
		if !strings.HasPrefix(name, "/var/lib/dpkg/") && !strings.HasPrefix(name, "/var/cache/man/") && name != "/var/log/dpkg.log" {
			all[name] = what
		}
	}
	return all
}

// changesSince are what is not as before.
func changesSince(t *testing.T, before map[string]string) []string {
	t.Helper()
	var all []string
	now := allFiles(t)
	for name, what := range now {
		if before[name] != what {
			all = append(all, name)
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			all = append(all, name+" is gone")
		}
	}
	return all
}

// TestThePackageIsThereAfterTheNextBoot is the article's end: install, edit one
// line, `update-rc.d minimail defaults 80`, boot.
func TestThePackageIsThereAfterTheNextBoot(t *testing.T) {
	t.Parallel()
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		if pids, links := m.Daemons(), m.Links(t); len(pids)+len(links) > 0 {
			t.Errorf("after installing there are processes %v and links %v", pids, links)
		}
		said := m.Run(t, 0, "/etc/init.d/minimail", "start")
		if !strings.Contains(said, "no MINIMAIL_HOST in /etc/default/minimail") {
			t.Errorf("without a host the init script says %q", said)
		}
		m.SetHost(t)
		m.Run(t, 0, strings.Fields("update-rc.d minimail defaults 80")...)
		want := []string{"rc0.d/K", "rc1.d/K", "rc2.d/S", "rc3.d/S", "rc4.d/S", "rc5.d/S", "rc6.d/K"}
		if got := m.Links(t); !slices.Equal(got, want) {
			t.Errorf("links %v, want %v", got, want)
		}

		atBoot(t, m, "2", "S", "start")
		m.Run(t, 0, "/etc/init.d/minimail", "status")
		pid := m.Pid(t)
		m.Sends(t)
		m.IsOwners(t, pid)
		m.Run(t, 0, "/etc/init.d/minimail", "start") // it runs already
		if got := m.Pid(t); got != pid {
			t.Errorf("a second start replaced %d by %d", pid, got)
		}
		m.Run(t, 0, "/etc/init.d/minimail", "restart")
		if got := m.Pid(t); got == pid {
			t.Error("restart has left the old one running")
		}
		m.Run(t, 0, "/etc/init.d/minimail", "force-reload")
		m.Sends(t)

		if err := syscall.Kill(m.Pid(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, "the killed one is seen as dead", func() bool {
			_, status := m.Try("/etc/init.d/minimail", "status")
			return status == 1
		})
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		m.Sends(t)

		atBoot(t, m, "0", "K", "stop")
		m.Run(t, 3, "/etc/init.d/minimail", "status")
		m.Run(t, 0, "/etc/init.d/minimail", "stop") // it is stopped already
		m.Run(t, 2, "/etc/init.d/minimail", "sotp")
		testbed.NoneIsLeft(t, m.Daemons)
	})
}

// atBoot runs what init would run in a runlevel.
func atBoot(t *testing.T, m *testbed.Machine, runlevel, kind, action string) {
	t.Helper()
	links, err := filepath.Glob("/etc/rc" + runlevel + ".d/" + kind + "[0-9][0-9]minimail")
	if err != nil || len(links) != 1 {
		t.Fatalf("links: %v, %v", links, err)
	}
	m.Run(t, 0, "RUNLEVEL="+runlevel, "PREVLEVEL=N", links[0], action)
}

// TestTheInitScriptPrefersTheUserOfTheSettings: a colleague's sudo sets their
// own SUDO_USER.
func TestTheInitScriptPrefersTheUserOfTheSettings(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		m.SetHost(t)
		m.Run(t, 0, "SUDO_USER="+testbed.Intruder, "/etc/init.d/minimail", "start")
		m.IsOwners(t, m.Pid(t))
		m.Run(t, 0, "/etc/init.d/minimail", "stop")

		// Without one in the file it is as in the article.
		s := strings.Replace(testbed.Read(t, testbed.SettingsFile), "\nSUDO_USER=", "\n#SUDO_USER=", 1)
		testbed.Write(t, testbed.SettingsFile, s)
		m.Run(t, 2, "/etc/init.d/minimail", "start")
		m.Run(t, 0, "SUDO_USER="+testbed.Owner, "/etc/init.d/minimail", "start")
		m.IsOwners(t, m.Pid(t))
		m.Run(t, 0, "/etc/init.d/minimail", "stop")
	})
}

// TestTheInitScriptRestartsWhatHasItsHostFromElsewhere, and says that nothing is
// started only where nothing runs.
func TestTheInitScriptRestartsWhatHasItsHostFromElsewhere(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		said := m.Run(t, 0, "/etc/init.d/minimail", "restart")
		if !strings.Contains(said, "no MINIMAIL_HOST in /etc/default/minimail") {
			t.Errorf("without a host the init script says %q", said)
		}
		m.Run(t, 0, "env", "-i", "MINIMAIL_HOST=far", "SUDO_USER="+testbed.Owner, "/etc/init.d/minimail", "start")
		pid := m.Pid(t)
		said = m.Run(t, 0, "/etc/init.d/minimail", "restart")
		if m.Pid(t) == pid || strings.Contains(said, "not started") {
			t.Errorf("restart has left pid %d running: %s", pid, said)
		}
		m.Run(t, 0, "/etc/init.d/minimail", "stop")
	})
}

// TestRemovingKeepsTheSettingsAndPurgingLeavesNothing compares the files before
// and after.
func TestRemovingKeepsTheSettingsAndPurgingLeavesNothing(t *testing.T) {
	t.Parallel()
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		before := allFiles(t)
		m.Install(t)
		m.SetHost(t, "# mine")
		m.Run(t, 0, "update-rc.d", "minimail", "defaults", "80")
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		pid := m.Pid(t)
		said := m.Install(t) // an upgrade: it goes on, with the new program
		if now := m.Pid(t); now == pid {
			t.Errorf("an upgrade has left the old program running:\n%s", said)
		}
		m.Run(t, 0, "dpkg", "--remove", "minimail")
		if pids := m.Daemons(); len(pids) > 0 {
			t.Errorf("running after remove: %v", pids)
		}
		if s := testbed.Read(t, testbed.SettingsFile); !strings.Contains(s, "# mine") {
			t.Error("remove has taken the settings")
		}
		m.Run(t, 0, "/etc/init.d/minimail", "start") // at the next boot

		m.Install(t)
		if pids := m.Daemons(); len(pids) > 0 {
			t.Errorf("installing has started %v", pids)
		}
		if s := testbed.Read(t, testbed.SettingsFile); !strings.Contains(s, "# mine") {
			t.Error("installing has replaced the settings")
		}
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		if err := syscall.Kill(m.Pid(t), syscall.SIGKILL); err != nil { // leaves a pid file
			t.Fatal(err)
		}
		testbed.Write(t, "/var/log/minimail.log.1", "")
		m.Run(t, 0, "dpkg", "--purge", "minimail")
		if changes := changesSince(t, before); len(changes) > 0 {
			t.Errorf("changed: %v", changes)
		}
	})
}

// TestTheLogIsRotatedWithoutLosingALine rotates under load.
func TestTheLogIsRotatedWithoutLosingALine(t *testing.T) {
	t.Parallel()
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		m.SetHost(t, "MINIMAIL_MAX_CLIENTS=1")
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		const served = "client served"
		m.Sends(t)
		wantLines := func(n int, files ...string) {
			t.Helper()
			testbed.Eventually(t, fmt.Sprintf("%d lines in %v", n, files), func() bool {
				got := 0
				for _, f := range files {
					b, _ := os.ReadFile(f)
					got += strings.Count(string(b), served)
				}
				return got == n
			})
		}
		const log = "/var/log/minimail.log"
		rotate := func() { // HUP is heard a moment after logrotate has ended
			t.Helper()
			m.Run(t, 0, "logrotate", "--force", "/etc/logrotate.d/minimail")
			testbed.Eventually(t, "there is a new log", func() bool { return strings.Contains(m.Log(), "log reopened") })
		}
		wantLines(2, log)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 20 {
				if err := testbed.Send("127.0.0.1:25", "one of many"); err != nil {
					t.Error(err)
					return
				}
				<-m.Mails
			}
		}()
		rotate()
		<-sent
		wantLines(22, log, log+".1")

		m.Sends(t)
		testbed.Eventually(t, "new lines are in the new file", func() bool { return strings.Count(m.Log(), served) >= 2 })
		fi, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		uid, err := strconv.Atoi(strings.TrimSpace(m.Run(t, 0, "id", "-u", testbed.Owner)))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != uid || fi.Mode() != 0o640 {
			t.Errorf("the new log is %d's with mode %v, want %d's with 0640", got, fi.Mode(), uid)
		}
		rotate()
		m.Sends(t)
		testbed.Eventually(t, "lines go to the third file", func() bool { return strings.Count(m.Log(), served) == 2 })
		if !testbed.Exists(log + ".2.gz") {
			t.Error("the oldest is not compressed")
		}
		m.Run(t, 0, "/etc/init.d/minimail", "stop")
	})
}

// TestRemovingStopsAMinimailThatWasStartedByHand: where systemd runs, systemctl
// knows nothing of it.
func TestRemovingStopsAMinimailThatWasStartedByHand(t *testing.T) {
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		m.SetHost(t)
		m.Run(t, 0, "/usr/bin/minimail", "start")
		m.Run(t, 0, "mkdir", "-p", "/run/systemd/system") // sd_booted(3)
		const systemctl = "/usr/local/bin/systemctl"
		testbed.Write(t, systemctl, "#!/bin/sh\n")
		m.Run(t, 0, "chmod", "755", systemctl)
		m.Run(t, 0, "dpkg", "--remove", "minimail")
		testbed.NoneIsLeft(t, m.Daemons)
	})
}
