package forward

import (
	"io"
	"testing"
)

// TestAllOfALargeMailIsLookedAt: what is said after its end decides what a client
// may be told, so none of it is spliced.
func TestAllOfALargeMailIsLookedAt(t *testing.T) {
	noLeaks(t)
	const size = 4 * int64(len(buffer{}))
	near := make(chan Stream, 1)
	from := answering(t, "tcp", func(c Stream) {
		_, _ = c.Write(make([]byte, size))
		c.Close()
		near <- c
	})
	to := answering(t, "tcp", func(c Stream) { _, _ = io.Copy(io.Discard, c); c.Close() })
	a, b := must(from.dial(t.Context())), must(to.dial(t.Context()))
	defer a.Close()
	defer b.Close()
	<-near // all of it is in the kernel
	var seen int64
	d := direction{from: a, to: b, seen: func(p []byte) { seen += int64(len(p)) }}
	d.raw, _ = d.from.SyscallConn()
	if err := d.copy(); err != nil || d.n != size || seen != size {
		t.Errorf("%d of %d bytes were copied, %d looked at: %v", d.n, size, seen, err)
	}
}
