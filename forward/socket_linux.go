package forward

import "golang.org/x/sys/unix"

// pollRDHUP is the poll(2) event of a peer that has shut down its sending side.
const pollRDHUP = unix.POLLRDHUP

// finished reports whether c's peer has ended its sending side in an orderly way,
// given that n bytes were read from c, and no more are there. The kernel counts
// a FIN as a byte received (Linux, tcp_rcv_nxt_update). If it does not tell,
// or c is a multipath connection, whose end is none of TCP's FINs, that is
// taken for a yes.
func finished(c Stream, n int64) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	yes := true
	_ = raw.Control(func(fd uintptr) {
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || protocol != unix.IPPROTO_TCP {
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err != nil || info.Bytes_received != uint64(n)
	})
	return yes
}

// readable is how many bytes can be read at once (tcp(7), unix(7): SIOCINQ), or 0
// if the kernel does not tell.
func readable(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
