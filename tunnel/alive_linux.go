package tunnel

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// signs are those of the connection to host, or of those that helpers of ssh's
// have if host is empty (tcp(7), TCP_INFO). They are not known if the kernel does
// not let us at them.
func (w *wire) signs(host string) (s signs, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, each := range only(slices.Clone(w.sockets), host) {
		_ = each.do(func(fd int) error {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || info.State != unix.BPF_TCP_ESTABLISHED { // a listening one knows nothing
				return err
			}
			one := signsOf(info)
			if !ok || one.heard < s.heard {
				s, ok = one, true
			}
			return nil
		})
	}
	return s, ok
}

func signsOf(info *unix.TCPInfo) signs {
	data := time.Duration(info.Last_data_recv) * time.Millisecond
	acked := time.Duration(info.Last_ack_recv) * time.Millisecond
	return signs{heard: min(data, acked), data: data, owed: info.Unacked > 0 || info.Notsent_bytes > 0, again: int(info.Retransmits)}
}
