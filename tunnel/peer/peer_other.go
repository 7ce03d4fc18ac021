//go:build unix && !linux

package peer

import (
	"errors"
	"fmt"
	"net"
)

// peerOf: this system cannot say who is at the other end of a connection.
func peerOf(net.Conn) (peer, error) {
	return peer{}, errors.ErrUnsupported
}

// listenerOf: nor this.
func listenerOf(net.Conn) (peer, error) { return peer{}, errors.ErrUnsupported }

// Owns: here nobody tells who listens.
func Owns(net.Conn, int) error { return nil }

// ListenersAt: nor does anybody here tell who listens in general.
func ListenersAt([]int) ([]Listener, error) {
	return nil, fmt.Errorf("cannot see who listens: %w", errors.ErrUnsupported)
}
