package peer

import (
	"net/netip"
	"testing"
)

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
		if got := (Listener{At: netip.MustParseAddrPort(c.at)}).inTheWay(c.address); got != c.want {
			t.Errorf("%s in the way of %s: %v", c.at, c.address, got)
		}
	}
}
