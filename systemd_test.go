//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemdBootsItWithoutRootAtAnyMoment boots the machine with a real
// systemd, in a container: what update-rc.d has enabled is there, ssh works
// within the hardening, as the socket's service and alone.
func TestSystemdBootsItWithoutRootAtAnyMoment(t *testing.T) {
	needProgram(t, "systemd-nspawn")
	onMachine(t, func(t *testing.T, m *machine) {
		m.install(t)
		m.setHost(t)
		// The far port 25 would be our own here: that is the one setting that the
		// test makes elsewhere, since the file says which units are used.
		file := read(t, defaultSettings)
		forward := found(`(?m)^(MINIMAIL_FORWARD=.*)$`, file)[0]
		write(t, defaultSettings, strings.ReplaceAll(file, forward+"\n", ""))
		m.run(t, 0, "mkdir", "-p", "/etc/systemd/system/minimail.service.d")
		const elsewhere = "/etc/systemd/system/minimail.service.d/test.conf"
		write(t, elsewhere, "[Service]\nEnvironment="+forward+"\n")
		m.run(t, 0, "sh", "-c", "rm -rf /etc/systemd/system/*.wants /lib/systemd/system/multi-user.target.wants")
		m.run(t, 0, strings.Fields("update-rc.d minimail defaults 80")...)
		systemctl := m.boot(t)

		m.sends(t)
		pid := theService(t)
		m.isOwners(t, pid)
		eventually(t, "systemd shows a status", func() bool {
			return !strings.Contains(systemctl("show", "--property=StatusText", "minimail"), "StatusText=\n")
		})
		t.Logf("%s", systemctl("status", "--no-pager", "minimail"))
		systemctl("reload", "minimail")
		m.sends(t)
		if now := theService(t); now != pid {
			t.Errorf("reload has replaced %d by %d", pid, now)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		m.sends(t) // the socket waits until systemd has started it again
		m.isOwners(t, theService(t))

		// minimail's own words do what they say, though it is systemd's.
		const program = "/usr/bin/minimail"
		if out, code := m.inside(program, "start"); code != exitAlreadyRunning || !strings.Contains(out, "already running, pid ") {
			t.Errorf("start: %d, %s", code, out)
		}
		pid = theService(t)
		if out, code := m.inside(program, "restart"); code != 0 || !strings.Contains(out, "systemctl restart minimail.service") {
			t.Errorf("restart: %d, %s", code, out)
		}
		m.sends(t)
		if theService(t) == pid {
			t.Error("restart has left the old one")
		}
		if out, code := m.inside(program, "stop"); code != 0 || len(commandsWith("/usr/bin/minimail\x00-X")) != 0 {
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
		write(t, defaultSettings, file)
		systemctl("daemon-reload")
		systemctl("start", "minimail")
		m.sends(t)
		m.isOwners(t, theService(t)) // and has given up what it bound them with
		client, err := net.Dial("tcp", "127.0.0.1:25")
		if err != nil {
			t.Fatal(err)
		}
		_ = client.SetDeadline(time.Now().Add(2 * patience))
		if got := line(t, bufio.NewReader(client)); !strings.HasPrefix(got, "220 ") {
			t.Errorf("greeting %q", got)
		}
		pids := commandsWith("ssh\x00-N\x00")
		if len(pids) != 1 {
			t.Fatalf("processes of ssh: %v", pids)
		}
		m.isOwners(t, pids[0]) // and has no capability
		if active := systemctl("show", "--property=ActiveState", "minimail.socket"); active != "ActiveState=inactive\n" {
			t.Errorf("the socket unit: %s", active)
		}

		// TERM is not for ssh: who is at work may finish.
		systemctl("stop", "--no-block", "minimail")
		eventually(t, "port 25 is closed", func() bool {
			c, err := net.Dial("tcp", "127.0.0.1:25")
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		fmt.Fprintf(client, "QUIT\r\n")
		if got := line(t, bufio.NewReader(client)); !strings.HasPrefix(got, "221 ") {
			t.Errorf("at the end %q, want a good-bye", got)
		}
		client.Close()

		// Here nothing but systemd's Restart= starts a dead one again.
		systemctl("start", "minimail")
		pid = theService(t)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another one runs", func() bool {
			pids := commandsWith("/usr/bin/minimail\x00-X")
			return len(pids) == 1 && pids[0] != pid
		})
	})
}

// boot boots a container of the machine's files and network, and returns its
// systemctl.
func (m *machine) boot(t *testing.T) func(args ...string) string {
	t.Helper()
	tidyCgroups(t)
	write(t, "/etc/machine-id", "6d696e696d61696c20696e2061207465\n") // another machine
	root := filepath.Join(publicDir(t), "container")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("/", root, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	said := new(words)
	cmd := exec.Command("systemd-nspawn", "--directory", root, "--register=no", "--keep-unit", "--console=pipe",
		"--resolv-conf=off", "--timezone=off", "--boot", "--", "--unit=multi-user.target", "--show-status=yes")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	init := 0
	t.Cleanup(func() {
		if init != 0 {
			_ = syscall.Kill(init, syscall.SIGKILL) // and with it the container
		} else {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		_ = syscall.Unmount(root, syscall.MNT_DETACH)
		if t.Failed() {
			t.Logf("systemd-nspawn:\n%s", said)
		}
	})
	eventually(t, "systemd runs in the container:\n"+said.String(), func() bool {
		for _, pid := range commandsWith("systemd\x00--unit=multi-user.target\x00") {
			if pid != cmd.Process.Pid {
				init = pid
			}
		}
		return init != 0
	})
	m.inside = func(argv ...string) (string, int) {
		enter := []string{"nsenter", "--target", fmt.Sprint(init), "--mount", "--pid", "--uts", "--ipc", "--root", "--wd=/"}
		return m.try(append(enter, argv...)...)
	}
	eventually(t, "the boot is over", func() bool {
		out, _ := m.inside("systemctl", "is-active", "multi-user.target")
		return out == "active\n"
	})
	return func(args ...string) string {
		t.Helper()
		out, code := m.inside(append([]string{"systemctl"}, args...)...)
		if code != 0 {
			why, _ := m.inside("systemctl", "status", "--no-pager", "minimail.service", "minimail.socket")
			t.Fatalf("systemctl %s: %d\n%s\n%s", strings.Join(args, " "), code, out, why)
		}
		return out
	}
}

// theService is the pid of the minimail that systemd has started.
func theService(t *testing.T) int {
	t.Helper()
	var pids []int
	eventually(t, "the service runs", func() bool {
		pids = commandsWith("/usr/bin/minimail\x00-X")
		return len(pids) == 1
	})
	return pids[0]
}

// tidyCgroups removes, after the test, the control groups that systemd has made.
func tidyCgroups(t *testing.T) {
	t.Helper()
	list := func() []string {
		return strings.Fields(command(t, "find", "/sys/fs/cgroup", "-depth", "-type", "d"))
	}
	before := list()
	t.Cleanup(func() {
		eventually(t, "its control groups are gone", func() bool {
			gone := true
			for _, d := range list() {
				gone = (slices.Contains(before, d) || os.Remove(d) == nil) && gone
			}
			return gone
		})
	})
}
