package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minimail/internal/settings"
)

// isMinimail guards against a pid that has been given to somebody else, or was
// written by somebody else: in a file of a user's it is that of a process of his.
// Systems without /proc tell no more than that the process lives.
func isMinimail(pid, owner int) bool {
	if err := unix.Kill(pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil { // hidden from us (hidepid, proc(5)), or there is no /proc
		return owner == 0 || !settings.IsDir("/proc/self")
	}
	uid, ok := statusField(string(status), "Uid:")
	if state, _ := statusField(string(status), "State:"); !ok || state == "Z" {
		return false
	}
	if n, err := strconv.Atoi(uid); err != nil || owner != 0 && n != owner {
		return false
	}
	return isThisProgram(pid, string(status))
}

// isThisProgram goes by the executable, however it was called. Who may not see
// it goes by its name, of which the kernel keeps 15 bytes.
func isThisProgram(pid int, status string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	self, _ := os.Executable()
	ours := filepath.Base(self)
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)")) // by an upgrade
	if errors.Is(err, fs.ErrPermission) {
		name, _ = statusField(status, "Name:")
		ours = ours[:min(len(ours), 15)]
	} else if err != nil {
		return false
	}
	return name == ours || strings.HasPrefix(name, "minimail")
}

// statusField is the first word of a line of /proc/PID/status.
func statusField(status, name string) (string, bool) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name); ok && rest != "" {
			if words := strings.Fields(rest); len(words) > 0 {
				return words[0], true
			}
		}
	}
	return "", false
}
