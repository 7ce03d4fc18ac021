package privdrop

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities gives up, for all threads and for good, what a service manager
// has given to a process that is not root, so that it could bind a port. It does
// nothing if there is nothing to give up. A program built with cgo cannot reach
// all of its threads (syscall.AllThreadsSyscall): for that it is an error.
func Capabilities() error {
	has, err := anyCapability()
	if err != nil || !has {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	// With the permitted and inheritable sets goes the ambient one
	// (capabilities(7)).
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	switch {
	case errno == syscall.ENOTSUP:
		return errors.New("cannot give up capabilities: this program was built with cgo")
	case errno != 0:
		return fmt.Errorf("cannot give up capabilities: %w", errno)
	}
	if has, err = anyCapability(); err == nil && has {
		err = errors.New("cannot give up capabilities: some are left")
	}
	return err
}

// anyCapability reports whether this thread has one.
func anyCapability() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("cannot read capabilities: %w", err)
	}
	return data != [2]unix.CapUserData{}, nil
}
