//go:build unix && !linux

package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"minimail/tunnel"
)

// find: this system does not say who is at the other end of a connection.
func find(_, _ netip.AddrPort) (socket, error) { return socket{}, errors.ErrUnsupported }

// Prover: nor who listens. Everybody is trusted.
func Prover([]string) func(pid int) tunnel.Proof {
	return func(int) tunnel.Proof { return tunnel.Proof{} }
}

// Mark is to be in the environment of ssh: it tells which minimail has launched
// it.
func Mark() string { return fmt.Sprintf("LAUNCHED_BY_MINIMAIL=%d", os.Getpid()) }

// ListenersAt: nor does anybody here tell who listens in general.
func ListenersAt([]int) ([]Listener, error) {
	return nil, fmt.Errorf("cannot see who listens: %w", errors.ErrUnsupported)
}

// launchedBy reports whether a process is one that the minimail with that pid has
// launched.
func (p Process) launchedBy(minimail int) bool { return p.Parent == minimail }
