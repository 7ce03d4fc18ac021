package forward

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// absent finds n addresses that this machine does not have, among those that
// are for documentation (RFC 5737).
func absent(t *testing.T, n int) (hosts []string) {
	for _, host := range []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "198.51.100.2", "203.0.113.2"} {
		l, err := net.Listen("tcp", host+":0")
		if err == nil {
			l.Close()
		} else if errors.Is(err, syscall.EADDRNOTAVAIL) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) < n {
		t.Skip("this machine binds any address")
	}
	return hosts[:n]
}

func hasIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no [::1]:", err)
	}
	l.Close()
}

// reaches connects through l.
func reaches(t *testing.T, l net.Listener) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestListenBindsBothFamilies(t *testing.T) {
	noLeaks(t)
	hasIPv6(t)
	ls, err := Listen([]string{"127.0.0.1", "::1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(ls)
	if len(ls) != 2 {
		t.Fatalf("%d listeners", len(ls))
	}
	for i, host := range []string{"127.0.0.1", "::1"} {
		if a := ls[i].Addr().(*net.TCPAddr); !a.IP.Equal(net.ParseIP(host)) {
			t.Errorf("bound %s, not %s", a, host)
		}
		reaches(t, ls[i])
	}
}

func TestAFamilyThatIsNotThereIsPassedOver(t *testing.T) {
	nowhere := absent(t, 1)[0]
	for _, hosts := range [][]string{{"127.0.0.1", nowhere}, {nowhere, "127.0.0.1"}} {
		t.Run(strings.Join(hosts, " "), func(t *testing.T) {
			noLeaks(t)
			ls, err := Listen(hosts, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer Close(ls)
			if len(ls) != 1 || !ls[0].Addr().(*net.TCPAddr).IP.IsLoopback() {
				t.Fatalf("listening on %v", ls)
			}
			reaches(t, ls[0])
		})
	}
}

func TestIfNoAddressIsThereListenSaysSo(t *testing.T) {
	for _, hosts := range [][]string{absent(t, 1), absent(t, 2)} {
		t.Run(strings.Join(hosts, " "), func(t *testing.T) {
			noLeaks(t)
			ls, err := Listen(hosts, 0)
			if !errors.Is(err, syscall.EADDRNOTAVAIL) || ls != nil {
				t.Errorf("%v, %v", ls, err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "cannot listen: ") {
				t.Errorf("the error says %q", err)
			}
		})
	}
}

func TestAPortInUseLeavesNothingBound(t *testing.T) {
	noLeaks(t)
	// Somebody else's listener may sit on the port at our first address: try
	// another port then.
	for range 20 {
		inUse, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Skip("this machine has only one loopback address:", err)
		}
		defer inUse.Close()
		port := inUse.Addr().(*net.TCPAddr).Port
		free, err := Listen([]string{"127.0.0.1"}, port)
		if err != nil {
			continue
		}
		Close(free)
		before := openFiles()
		ls, err := Listen([]string{"127.0.0.1", "127.0.0.2"}, port)
		if !errors.Is(err, syscall.EADDRINUSE) || ls != nil {
			t.Fatalf("%v, %v", ls, err)
		}
		if n := openFiles(); n != before {
			t.Errorf("%d descriptors are open, %d were before", n, before)
		}
		again, err := Listen([]string{"127.0.0.1"}, port)
		if err != nil {
			t.Errorf("the first address is still bound: %v", err)
		}
		Close(again)
		return
	}
	t.Skip("found no port that is free at our first address")
}

// TestWhatIsBoundAlreadyIsTaken by its address and port, and nothing else is.
func TestWhatIsBoundAlreadyIsTaken(t *testing.T) {
	listen := func(network, address string) net.Listener {
		l := must(net.Listen(network, address))
		t.Cleanup(func() { l.Close() })
		return l
	}
	socket, other, elsewhere := listen("unix", t.TempDir()+"/s"), listen("tcp", "127.0.0.1:0"), listen("tcp", "127.0.83.2:0")
	port := elsewhere.Addr().(*net.TCPAddr).Port
	ls, err := Listen([]string{"127.0.83.2", "127.0.83.3"}, port, socket, other, elsewhere)
	if err != nil || len(ls) != 2 || ls[0] != elsewhere || ls[1].Addr().String() != net.JoinHostPort("127.0.83.3", strconv.Itoa(port)) {
		t.Fatalf("%v, %v", ls, err)
	}
	ls[1].Close()
	if ls, err := Listen([]string{"127.0.83.2"}, port, elsewhere); err != nil || len(ls) != 1 || ls[0] != elsewhere {
		t.Errorf("%v, %v", ls, err)
	}
}

func TestAHostsNetworkIsOfItsFamilyAlone(t *testing.T) {
	for host, want := range map[string]string{"0.0.0.0": "tcp4", "127.0.0.1": "tcp4", "::": "tcp6", "fe80::1%lo": "tcp6"} {
		if got := network(host); got != want {
			t.Errorf("%s for %s, want %s", got, host, want)
		}
	}
}
