package forward

import "golang.org/x/sys/unix"

// finished tells whether c's peer has ended its sending side in an orderly way,
// given that n bytes were read from c, and no more are there. The kernel counts
// a FIN as a byte received (Linux, tcp_rcv_nxt_update). If it does not tell,
// or c is a multipath connection, whose end is none of TCP's FINs, that is
// taken for a yes.
func finished(c stream, n int64) bool {
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
