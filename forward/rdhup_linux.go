package forward

import "golang.org/x/sys/unix"

// pollRDHUP is the poll(2) event of a peer that has shut down its sending side.
const pollRDHUP = unix.POLLRDHUP
