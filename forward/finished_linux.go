package forward

import "golang.org/x/sys/unix"

// finished tells whether c's peer has ended its sending side in an orderly way,
// given that n bytes were read from c, and no more are there. The kernel counts
// a FIN as a byte received (Linux, tcp_rcv_nxt_update). If it does not tell,
// that is taken for a yes.
func finished(c stream, n int64) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return err != nil || infoErr != nil || info.Bytes_received != uint64(n)
}
