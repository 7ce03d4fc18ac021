package peer

import (
	"errors"
	"fmt"
	"os"
	"slices"
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

// dismiss ends a process that has been left behind by a launch before this one,
// of a minimail that is no more, or of ourselves, and reports whether it is that.
func (p Process) dismiss(launch Process) bool {
	return p.kill(func(kv string) bool { return kv == Mark() && p.Began < launch.Began || isOrphaned(kv) })
}

// kill ends a process that has one of certain words in its environment, and reports
// whether it has done so.
func (p Process) kill(doomed func(kv string) bool) bool {
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	return slices.ContainsFunc(words(p.PID, "environ"), doomed) && ProcessOf(p.PID).Began == p.Began &&
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) == nil
}

// isOrphaned reports whether the minimail of a mark is no more. Of one in
// another container that is not known.
func isOrphaned(mark string) bool {
	minimail, ok := parseMark(mark)
	if !ok {
		return false
	}
	if errors.Is(unix.Kill(minimail.PID, 0), unix.ESRCH) {
		return true
	}
	p := ProcessOf(minimail.PID)
	return p.Name != "" && p.Began != minimail.Began
}

// parseMark is which minimail has launched somebody, if it is one whose pid means
// the same to us.
func parseMark(mark string) (minimail Process, ok bool) {
	var ns string
	value, marked := strings.CutPrefix(mark, markName)
	_, err := fmt.Sscanf(value, "%s %d %d", &ns, &minimail.PID, &minimail.Began)
	return minimail, marked && err == nil && ns == pidNamespace() && minimail.PID > 0
}

// launchedBy reports whether a process is one that the minimail with that pid has
// launched, or its descendant.
func (p Process) launchedBy(minimail int) bool {
	if p.Parent == minimail {
		return true
	}
	return slices.ContainsFunc(words(p.PID, "environ"), func(kv string) bool {
		by, ok := parseMark(kv)
		return ok && by.PID == minimail && ProcessOf(minimail).Began == by.Began
	})
}
