package peer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// markName is an environment variable of ssh's and of all that ssh starts.
const markName = "LAUNCHED_BY_MINIMAIL="

// Mark is to be in the environment of ssh: it tells which minimail has launched
// it, even if a wrapper has detached it from us.
var Mark = sync.OnceValue(func() string {
	return fmt.Sprintf("%s%s %d %d", markName, pidNamespace(), os.Getpid(), ProcessOf(os.Getpid()).Began)
})

// pidNamespace is where our pids mean what they say.
func pidNamespace() string {
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return ns
}

// dismiss tells a process to go if it was launched by a minimail that is no
// more, and reports whether that is so.
func (p Process) dismiss() bool {
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	for _, kv := range words(p.PID, "environ") {
		if strings.HasPrefix(kv, markName) && isOrphaned(kv) && ProcessOf(p.PID).Began == p.Began {
			return unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil
		}
	}
	return false
}

// isOrphaned reports whether the minimail of a mark is no more. Of one in
// another container that is not known.
func isOrphaned(mark string) bool {
	var ns string
	var pid int
	var began uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(mark, markName), "%s %d %d", &ns, &pid, &began); err != nil || ns != pidNamespace() || pid <= 0 {
		return false
	}
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return true
	}
	p := ProcessOf(pid)
	return p.Name != "" && p.Began != began
}
