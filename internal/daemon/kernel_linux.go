package daemon

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// hasACL reports whether an access control list lets more users in than the
// mode says (acl(5)): the group's bits are then its mask.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

// userAt is who is at the other end (unix(7), SO_PEERCRED): who listens there,
// as he was when he began to, or who has connected.
func userAt(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var who *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil || err != nil {
		return -1, errors.Join(controlErr, err)
	}
	return int(who.Uid), nil
}
