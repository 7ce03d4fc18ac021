package daemon

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// TestAMinimailIsKnownToOthersByItsName: they may not see its program.
func TestAMinimailIsKnownToOthersByItsName(t *testing.T) {
	testbed.NeedRoot(t)
	pid, _ := holding(t, filepath.Join(testbed.PublicDir(t), "m.pid"), "")
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	dead := exec.Command(testbed.FakeProgram(t, player), "ends")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, "it is a zombie", func() bool {
		state, _ := statusField(testbed.Read(t, fmt.Sprintf("/proc/%d/status", dead.Process.Pid)), "State:")
		return state == "Z"
	})
	for pid, want := range map[int]string{pid: "true", sleep.Process.Pid: "false", dead.Process.Pid: "false"} {
		if got := asUser(t, testbed.Intruder, "lives", strconv.Itoa(pid), "0"); got != want {
			t.Errorf("%d: %s, want %s", pid, got, want)
		}
	}
	_ = dead.Wait()
}

// TestAProcessThatIsHiddenLivesIfRootSaysSo, in its pid file.
func TestAProcessThatIsHiddenLivesIfRootSaysSo(t *testing.T) {
	testbed.NeedRoot(t)
	testbed.NeedProgram(t, "setpriv")
	pid, _ := holding(t, filepath.Join(testbed.PublicDir(t), "m.pid"), "")
	for owner, want := range map[string]string{"0": "true", strconv.Itoa(testbed.UidOf(t, testbed.Intruder)): "false"} {
		cmd := exec.Command("sh", "-c", `mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=`+testbed.Intruder+` --regid=nogroup --clear-groups "$0" "$@"`,
			testbed.FakeProgram(t, player), "lives", strconv.Itoa(pid), owner)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("nothing can be mounted: %v, %s", err, out)
		} else if string(out) != want {
			t.Errorf("a file of %s: %s, want %s", owner, out, want)
		}
	}
}

// TestAUserMayInheritFromHimself, who is not root.
func TestAUserMayInheritFromHimself(t *testing.T) {
	dir := testbed.PublicDir(t)
	testbed.GiveTo(t, dir, testbed.Intruder)
	if got := asUser(t, testbed.Intruder, "inherits", filepath.Join(dir, "s")); got != "<nil>" {
		t.Error(got)
	}
}

func init() {
	plays["ends"] = func([]string) int { return 0 }
	plays["lives"] = func(args []string) int {
		pid, _ := strconv.Atoi(args[0])
		owner, _ := strconv.Atoi(args[1])
		fmt.Print(isMinimail(pid, owner))
		return 0
	}
	plays["inherits"] = func(args []string) int {
		l, err := net.Listen("unix", args[0])
		if err == nil {
			_, err = net.Dial("unix", args[0])
		}
		if err != nil {
			fmt.Print(err)
			return 0
		}
		c, err := l.Accept()
		if err == nil {
			err = mayInherit(c.(*net.UnixConn))
		}
		fmt.Print(err)
		return 0
	}
}
