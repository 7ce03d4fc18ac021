package testbed

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// FreePort is one that nobody listens on. It is below the range from which the
// kernel takes ports by itself, or somebody else's connection might get it.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + int(portSeed.next())%20000
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// portSeed makes ports that no other test of this run has got.
var portSeed = &sequence{n: uint32(os.Getpid()) * 7919}

type sequence struct {
	mu sync.Mutex
	n  uint32
}

func (s *sequence) next() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += 17
	return s.n
}

// WildcardListener is the address of a listener at port that other machines
// can reach, or "".
func WildcardListener(t testing.TB, port int) string {
	t.Helper()
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, l := range strings.Split(Read(t, f), "\n") {
			fields := strings.Fields(l)
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) &&
				strings.Trim(strings.Split(fields[1], ":")[0], "0") == "" {
				return fields[1]
			}
		}
	}
	return ""
}
