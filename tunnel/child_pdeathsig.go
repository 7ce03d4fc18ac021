//go:build linux || freebsd

package tunnel

import "syscall"

// childAttributes puts ssh into a session of its own, so that nothing can ask
// for a password on our terminal, and has the kernel end it when we are killed
// (TERM, so that ssh can still end its ProxyCommand).
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}
