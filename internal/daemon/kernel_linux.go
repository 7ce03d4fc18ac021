package daemon

import "golang.org/x/sys/unix"

// hasACL reports whether an access control list lets more users in than the
// mode says (acl(5)): the group's bits are then its mask.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
