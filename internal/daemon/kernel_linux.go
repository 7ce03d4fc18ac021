package daemon

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hasACL reports whether an access control list lets more users in than the
// mode says (acl(5)): the group's bits are then its mask.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

// isAnybody reports whether a uid is that of all users of the machine whom our
// user namespace does not know (user_namespaces(7)): nobody's, mostly.
func isAnybody(uid int) bool {
	known, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || strings.Join(strings.Fields(string(known)), " ") == "0 0 4294967295" {
		return false // all are known
	}
	overflow := 65534
	if b, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			overflow = n
		}
	}
	return uid == overflow
}
