package testbed

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// OwnNetwork moves the test, and what it starts and listens on, to a loopback
// of its own, where nobody else has port 25.
func OwnNetwork(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	runtime.LockOSThread() // and never unlock it: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	Run(t, "ip", "link", "set", "lo", "up")
}

// IsNobody reads the ids of all threads of pid back from the kernel.
func IsNobody(t testing.TB, pid int) {
	t.Helper()
	uid := strconv.Itoa(UidOf(t, RunAs))
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	for _, task := range tasks {
		for _, l := range strings.Split(Read(t, task), "\n") {
			f := strings.Fields(l)
			if len(f) == 0 {
				continue
			}
			switch f[0] {
			case "Uid:", "Gid:": // nobody's group has the same number
				if got := strings.Join(f[1:], " "); got != strings.Join([]string{uid, uid, uid, uid}, " ") {
					t.Errorf("%s %s", f[0], got)
				}
			case "Groups:":
				if got := strings.Join(f[1:], " "); got != uid {
					t.Errorf("groups %q", got)
				}
			case "CapPrm:", "CapEff:", "CapAmb:":
				if f[1] != "0000000000000000" {
					t.Errorf("%s %s", f[0], f[1])
				}
			}
		}
	}
}
