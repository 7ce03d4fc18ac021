//go:build unix && !linux && !freebsd

package tunnel

import "syscall"

// childAttributes puts ssh into a session of its own, so that nothing can ask
// for a password on our terminal. This system has no parent-death signal: an
// ssh whose minimail was killed with -9 stays.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}
