package tunnel

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestAsTheFirstProcessOfAContainerWhatSSHLeavesBehindIsReaped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a process namespace needs root")
	}
	argv := fake("init")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "as pid 1: -1 no child processes" {
		t.Errorf("%v: %s", err, got)
	}
}
