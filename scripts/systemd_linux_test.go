package scripts_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// TestSystemdBootsItWithoutRootAtAnyMoment boots the machine with a real
// systemd, in a container: what update-rc.d has enabled is there, ssh works
// within the hardening, as the socket's service and alone.
func TestSystemdBootsItWithoutRootAtAnyMoment(t *testing.T) {
	testbed.NeedProgram(t, "systemd-nspawn")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		m.SetHost(t, "MINIMAIL_DRAIN=60")
		file := forwardElsewhere(t, m)
		m.Run(t, 0, strings.Fields("update-rc.d minimail defaults 80")...)
		systemctl := m.Boot(t)

		m.Sends(t)
		pid := theService(t)
		m.IsOwners(t, pid)
		testbed.Eventually(t, "systemd shows a status", func() bool {
			return !strings.Contains(systemctl("show", "--property=StatusText", "minimail"), "StatusText=\n")
		})
		t.Logf("%s", systemctl("status", "--no-pager", "minimail"))
		before := systemctl("show", "--property=MainPID", "minimail")
		systemctl("reload", "minimail")
		m.Sends(t)
		if systemctl("show", "--property=MainPID", "minimail") == before {
			t.Error("reload has left the old one, with the old settings")
		}
		// It would not wait for the end of another one's child.
		if said, _ := m.Inside("journalctl", "--no-pager", "-u", "minimail"); strings.Contains(said, "not our child") || strings.Contains(said, "reception only permitted") {
			t.Errorf("systemd says\n%s", said)
		}
		systemctl("restart", "minimail")
		m.Sends(t)
		pid = theService(t)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		m.Sends(t) // the socket waits until systemd has started it again
		m.IsOwners(t, theService(t))

		// minimail's own words do what they say, though it is systemd's.
		const program = "/usr/bin/minimail"
		if out, code := m.Inside(program, "start"); code != 150 || !strings.Contains(out, "already running, pid ") {
			t.Errorf("start: %d, %s", code, out)
		}
		pid = theService(t)
		if out, code := m.Inside(program, "restart"); code != 0 || !strings.Contains(out, "systemctl restart minimail.service") {
			t.Errorf("restart: %d, %s", code, out)
		}
		m.Sends(t)
		if theService(t) == pid {
			t.Error("restart has left the old one")
		}
		if out, code := m.Inside(program, "stop"); code != 0 || len(testbed.CommandsWith("/usr/bin/minimail\x00-X")) != 0 {
			t.Errorf("stop: %d, %s", code, out)
		}

		// With ports of its own it binds them itself.
		if c, err := net.Dial("tcp", "127.0.0.1:25"); err == nil {
			c.Close()
			t.Error("port 25 still answers")
		}
		if err := os.Remove(elsewhere); err != nil {
			t.Fatal(err)
		}
		testbed.Write(t, testbed.SettingsFile, file)
		systemctl("daemon-reload")
		systemctl("start", "minimail")
		m.Sends(t)
		m.IsOwners(t, theService(t)) // and has given up what it bound them with
		client, err := net.Dial("tcp", "127.0.0.1:25")
		if err != nil {
			t.Fatal(err)
		}
		_ = client.SetDeadline(time.Now().Add(2 * testbed.Patience))
		if got := testbed.ReadLine(t, bufio.NewReader(client)); !strings.HasPrefix(got, "220 ") {
			t.Errorf("greeting %q", got)
		}
		pids := testbed.CommandsWith("\x00-o\x00ControlMaster=no\x00")
		if len(pids) != 1 {
			t.Fatalf("processes of ssh: %v", pids)
		}
		m.IsOwners(t, pids[0]) // and has no capability
		if active := systemctl("show", "--property=ActiveState", "minimail.socket"); active != "ActiveState=inactive\n" {
			t.Errorf("the socket unit: %s", active)
		}

		// TERM is not for ssh: who is at work may finish.
		systemctl("stop", "--no-block", "minimail")
		testbed.Eventually(t, "port 25 is closed", func() bool {
			c, err := net.Dial("tcp", "127.0.0.1:25")
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		fmt.Fprintf(client, "QUIT\r\n")
		if got := testbed.ReadLine(t, bufio.NewReader(client)); !strings.HasPrefix(got, "221 ") {
			t.Errorf("at the end %q, want a good-bye", got)
		}
		client.Close()

		// Here nothing but systemd's Restart= starts a dead one again.
		systemctl("start", "minimail")
		pid = theService(t)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, "another one runs", func() bool {
			pids := testbed.CommandsWith("/usr/bin/minimail\x00-X")
			return len(pids) == 1 && pids[0] != pid
		})
	})
}

// theService is the pid of the minimail that systemd has started.
func theService(t *testing.T) int {
	t.Helper()
	var pids []int
	testbed.Eventually(t, "the service runs", func() bool {
		pids = testbed.CommandsWith("/usr/bin/minimail\x00-X")
		return len(pids) == 1
	})
	return pids[0]
}

// elsewhere is where forwardElsewhere puts the setting.
const elsewhere = "/etc/systemd/system/minimail.service.d/test.conf"

// forwardElsewhere takes what is to be forwarded out of the settings file, which
// says what units are used: the far port 25 would be our own here. It returns
// what the file was. Other services of this machine are not to be booted.
func forwardElsewhere(t *testing.T, m *testbed.Machine) (file string) {
	t.Helper()
	file = testbed.Read(t, testbed.SettingsFile)
	forward := testbed.Found(`(?m)^(MINIMAIL_FORWARD=.*)$`, file)[0]
	testbed.Write(t, testbed.SettingsFile, strings.ReplaceAll(file, forward+"\n", ""))
	m.Run(t, 0, "mkdir", "-p", "/etc/systemd/system/minimail.service.d")
	testbed.Write(t, elsewhere, "[Service]\nEnvironment="+forward+"\n")
	m.Run(t, 0, "sh", "-c", "rm -rf /etc/systemd/system/*.wants /lib/systemd/system/multi-user.target.wants")
	return file
}

// TestUnderSystemdAChangeOfTheSettingsNeedsNoDaemonReload, nor does a mistake
// close port 25.
func TestUnderSystemdAChangeOfTheSettingsNeedsNoDaemonReload(t *testing.T) {
	testbed.NeedProgram(t, "systemd-nspawn")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		m.SetHost(t)
		alone := forwardElsewhere(t, m)
		file := testbed.Read(t, testbed.SettingsFile)
		testbed.Write(t, testbed.SettingsFile, strings.ReplaceAll(file, "MINIMAIL_HOST=far", ""))
		systemctl := m.Boot(t)

		if _, code := m.Inside("service", "minimail", "start"); code == 0 {
			t.Error("without a host it is started, it says")
		}
		testbed.Eventually(t, "the journal says that there is no host", func() bool {
			said, _ := m.Inside("journalctl", "-u", "minimail-settings")
			return strings.Contains(said, "not started: no MINIMAIL_HOST in /etc/default/minimail")
		})
		testbed.Write(t, testbed.SettingsFile, file)
		systemctl("start", "minimail")
		m.Sends(t)
		m.IsOwners(t, theService(t))
		for range 10 {
			systemctl("restart", "minimail") // no start limit
		}

		testbed.Write(t, testbed.SettingsFile, file+"MINIMAIL_IDLE: 5\n")
		_, _ = m.Inside("systemctl", "restart", "minimail")
		for range 10 {
			knock(t)
		}
		_, _ = m.Inside("systemctl", "restart", "minimail")
		isTurnedAway(t) // who has told nobody yet ends when the settings change
		testbed.Write(t, testbed.SettingsFile, strings.ReplaceAll(file, "\nSUDO_USER="+testbed.Owner, "\nSUDO_USER=ghost"))
		pid := theService(t)
		if out, code := m.Inside("/usr/bin/minimail", "restart"); code == 0 || !strings.Contains(out, `there is no user "ghost"`) || theService(t) != pid {
			t.Errorf("minimail restart for a user whom nobody knows: %d, %s", code, out)
		}
		_, _ = m.Inside("systemctl", "restart", "minimail")
		knock(t)
		if user := systemctl("show", "--property=User", "minimail"); user != "User=daemon\n" {
			t.Errorf("for a user whom nobody knows: %s", user)
		}
		testbed.Write(t, testbed.SettingsFile, file)
		systemctl("restart", "minimail")
		m.Sends(t)
		m.IsOwners(t, theService(t))

		if err := os.Remove(elsewhere); err != nil {
			t.Fatal(err)
		}
		testbed.Write(t, testbed.SettingsFile, alone)
		systemctl("restart", "minimail")
		m.Sends(t)
		if active := systemctl("show", "--property=ActiveState", "minimail.socket"); active != "ActiveState=inactive\n" {
			t.Errorf("with ports of minimail's own, the socket unit: %s", active)
		}
		// A directory service may be late: who is not known yet is tried again.
		testbed.Write(t, testbed.SettingsFile, strings.ReplaceAll(alone, "\nSUDO_USER="+testbed.Owner, "\nSUDO_USER=ghost"))
		_, _ = m.Inside("systemctl", "restart", "minimail")
		testbed.Write(t, testbed.SettingsFile, alone)
		testbed.Eventually(t, "it is started once the user is known", func() bool {
			is, _ := m.Inside("systemctl", "show", "--property=User,ActiveState", "minimail")
			return strings.Contains(is, "ActiveState=active\n") && strings.Contains(is, "User="+testbed.Owner+"\n")
		})
		testbed.Write(t, testbed.SettingsFile, file)
		systemctl("restart", "minimail")
		if active := systemctl("show", "--property=ActiveState", "minimail.socket"); active != "ActiveState=active\n" {
			t.Errorf("with the usual ports again, the socket unit: %s", active)
		}
	})
}

// knock has a client come, which nobody refuses.
func knock(t *testing.T) {
	t.Helper()
	comes(t).Close()
}

// isTurnedAway has one come that is told why it is not served.
func isTurnedAway(t *testing.T) {
	t.Helper()
	c := comes(t)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * testbed.Patience))
	if got := testbed.ReadLine(t, bufio.NewReader(c)); !strings.HasPrefix(got, "421 ") {
		t.Errorf("with settings that are wrong a client is told %q", got)
	}
}

func comes(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal("port 25 is closed: ", err)
	}
	return c
}
