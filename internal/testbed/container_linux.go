package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Boot boots a container of the machine's files and network, and returns its
// systemctl.
func (m *Machine) Boot(t testing.TB) func(args ...string) string {
	t.Helper()
	tidyCgroups(t)
	Write(t, "/etc/machine-id", "6d696e696d61696c20696e2061207465\n") // another machine
	root := filepath.Join(PublicDir(t), "container")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]string{"/", "/home"}, mountedDirectories()...) {
		if err := syscall.Mount(d, filepath.Join(root, d), "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	said := new(Words)
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
	Eventually(t, "systemd runs in the container:\n"+said.String(), func() bool {
		// Not any with that command line: what systemd starts has it for a moment.
		if born := tree(cmd.Process.Pid); len(born) > 1 && slices.Contains(CommandsWith("systemd\x00--unit=multi-user.target\x00"), born[1]) {
			init = born[1]
		}
		return init != 0
	})
	m.Inside = func(argv ...string) (string, int) {
		enter := []string{"nsenter", "--target", fmt.Sprint(init), "--mount", "--pid", "--uts", "--ipc", "--root", "--wd=/"}
		return m.Try(append(enter, argv...)...)
	}
	Eventually(t, "the boot is over", func() bool {
		out, _ := m.Inside("systemctl", "is-active", "multi-user.target")
		return out == "active\n"
	})
	return func(args ...string) string {
		t.Helper()
		out, code := m.Inside(append([]string{"systemctl"}, args...)...)
		if code != 0 {
			why, _ := m.Inside("systemctl", "status", "--no-pager", "minimail.service", "minimail.socket")
			t.Fatalf("systemctl %s: %d\n%s\n%s", strings.Join(args, " "), code, out, why)
		}
		return out
	}
}

// tidyCgroups removes, after the test, the control groups that systemd has made.
func tidyCgroups(t testing.TB) {
	t.Helper()
	// Other packages' tests boot containers as well: one at a time.
	lock, err := os.Open("/sys/fs/cgroup")
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	list := func() []string {
		return strings.Fields(Run(t, "find", "/sys/fs/cgroup", "-depth", "-type", "d"))
	}
	before := list()
	t.Cleanup(func() {
		defer lock.Close()
		Eventually(t, "its control groups are gone", func() bool {
			gone := true
			for _, d := range list() {
				gone = (slices.Contains(before, d) || os.Remove(d) == nil) && gone
			}
			return gone
		})
	})
}
