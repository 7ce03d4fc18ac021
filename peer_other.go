//go:build unix && !linux

package main

import (
	"errors"
	"net"
)

// peerOf: this system cannot say who is at the other end of a connection.
func peerOf(net.Conn) (peer, error) {
	return peer{}, errors.ErrUnsupported
}

// listenerOf: nor this.
func listenerOf(net.Conn) (peer, error) { return peer{}, errors.ErrUnsupported }

// ownNearEnd: here nobody tells who listens.
func ownNearEnd(net.Conn, int) error { return nil }
