package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// find is the socket of this machine that is at local and connected to remote.
// If there is none, it is the one that listens there, or the zero one.
func find(local, remote netip.AddrPort) (socket, error) {
	if local.Addr().Is4() != remote.Addr().Is4() {
		return socket{}, fmt.Errorf("%s and %s are of two families", local, remote)
	}
	s, err := kernel.find(local, remote)
	return orElse(s, err, func() (socket, error) { return findInTables(local, remote) })
}

// listenerAt is the socket that gets the connections to at; the zero one if
// there is none.
func listenerAt(at netip.AddrPort) (socket, error) {
	s, err := kernel.find(at, nobody(at.Addr().Is4()))
	return orElse(s, err, func() (socket, error) { return listenerInTables(at) })
}

// socketsAt are all that have a port of ours.
func socketsAt(port int) ([]socket, error) {
	all, err := dump(port)
	all = slices.DeleteFunc(all, func(s socket) bool { return int(s.at.Port()) != port }) // Linux 6.8 tells of all that are only bound
	if err == nil && len(all) == 0 {
		err = errNoDiag // or there is none
	}
	return orElse(all, err, func() ([]socket, error) {
		return inTables(func(s socket, _ netip.AddrPort) bool { return int(s.at.Port()) == port })
	})
}

// orElse is an answer of sock_diag(7), or, if there is none, that of the tables.
// For want of memory or descriptors they cannot be read either.
func orElse[T any](answer T, err error, tables func() (T, error)) (T, error) {
	if err == nil || isShortage(err) {
		return answer, err
	}
	answer, tableErr := tables()
	if tableErr != nil {
		return answer, fmt.Errorf("%w; %w", err, tableErr)
	}
	return answer, nil
}

// isShortage reports whether an error will pass, when there are descriptors or
// memory again.
func isShortage(err error) bool {
	return slices.ContainsFunc([]error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM}, func(e error) bool {
		return errors.Is(err, e)
	})
}
