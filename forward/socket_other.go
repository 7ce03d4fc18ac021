//go:build unix && !linux

package forward

import "golang.org/x/sys/unix"

// pollRDHUP: this system's poll(2) has no event for a peer that has shut down
// its sending side while there are unread bytes; a reset is seen.
const pollRDHUP = unix.POLLHUP

// finished: this system does not tell how a peer has ended.
func finished(Stream, int64) bool { return true }

// readable: there is no splice(2) that it would be for.
func readable(int) int { return 0 }
