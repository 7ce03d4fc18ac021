//go:build unix && !linux

package forward

import "golang.org/x/sys/unix"

// pollRDHUP: this system's poll(2) has no event for a peer that has shut down
// its sending side while there are unread bytes; a reset is seen.
const pollRDHUP = unix.POLLHUP
