package peer

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// TestListenersAreReadFromTheKernelsTable: its addresses are words in the
// machine's order, here a little-endian one's.
func TestListenersAreReadFromTheKernelsTable(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:0019 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000001000000:0401 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1
   3: 0000000000000000FFFF00000100007F:0402 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 4714 1
   4: garbage
`
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("a big-endian machine's table is another one")
	}
	var got []string
	for _, l := range parseListeners(table) {
		got = append(got, l.At.String()+" "+l.Inode)
	}
	want := []string{"127.0.0.1:25 4711", "[::1]:1025 4713", "127.0.0.1:1026 4714"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAListenerIsInTheWayOfItsOwnAddressOrOfAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at, address string
		want        bool
	}{
		{"127.0.0.1:25", "127.0.0.1", true},
		{"127.0.0.1:25", "0.0.0.0", true},
		{"0.0.0.0:25", "127.0.0.1", true},
		{"[::]:25", "127.0.0.1", true},
		{"[::]:25", "::1", true},
		{"[::1]:25", "::", true},
		{"127.0.0.2:25", "127.0.0.1", false},
		{"[::1]:25", "127.0.0.1", false},
		{"127.0.0.1:25", "::1", false},
		{"0.0.0.0:25", "::1", false},
	} {
		if got := (Listener{At: netip.MustParseAddrPort(c.at)}).InTheWay(c.address); got != c.want {
			t.Errorf("%s in the way of %s: %v", c.at, c.address, got)
		}
	}
}
