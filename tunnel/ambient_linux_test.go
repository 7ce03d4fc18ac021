package tunnel

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSSHGetsNoCapabilityThatAServiceManagerHasGivenUs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a capability needs root")
	}
	argv := fake("rich")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}
	out, err := cmd.CombinedOutput()
	if got := strings.ReplaceAll(string(out), "\\t", " "); err != nil || got != `"CapAmb: 0000000000000400", "CapAmb: 0000000000000000"` {
		t.Errorf("%v: %s", err, got)
	}
}
