package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Listen binds port on each of hosts, which are addresses. An address family
// that this machine does not have is passed over as long as one is left. If
// anything else fails, nothing stays bound. Of bound, which are bound already,
// it takes those that are meant. The caller, or Serve, closes the listeners.
func Listen(hosts []string, port int, bound ...net.Listener) ([]net.Listener, error) {
	var ls []net.Listener
	var absent error
	for _, host := range hosts {
		if i := slices.IndexFunc(bound, func(l net.Listener) bool { return isAt(l, host, port) }); i >= 0 {
			ls = append(ls, bound[i])
			continue
		}
		l, err := listenConfig(host).Listen(context.Background(), network(host), net.JoinHostPort(host, strconv.Itoa(port)))
		switch {
		case err == nil:
			ls = append(ls, l)
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
			absent = err
		default:
			Close(ls)
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
	}
	if len(ls) == 0 {
		return nil, fmt.Errorf("cannot listen: %w", absent)
	}
	return ls, nil
}

func isAt(l net.Listener, host string, port int) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.Port == port && a.IP.Equal(net.ParseIP(host))
}

// listenConfig leaves out keepalives where the client is on this machine: its
// death closes the connection.
func listenConfig(host string) *net.ListenConfig {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return &net.ListenConfig{KeepAlive: -1}
	}
	return new(net.ListenConfig)
}

// network is of host's family alone: "tcp" would take 0.0.0.0 for both.
func network(host string) string {
	if strings.Contains(host, ":") {
		return "tcp6"
	}
	return "tcp4"
}

// Close closes the listeners that Listen has made.
func Close(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}
