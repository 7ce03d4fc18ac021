package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Spec is one --forward.
type Spec struct {
	Binds []string // addresses to listen on
	Port  int
	Near  string // ssh's local end: a port, or the absolute path of a Unix socket
	Far   string // the rest of ssh's -L: HOST:PORT, or the absolute path of a socket
	SMTP  bool   // its clients speak SMTP; Speak settles it
}

// farHost is resolved over there: a name, or an address (IPv6 in brackets).
var farHost = regexp.MustCompile(`^([^][/][^][]*|\[[^][]+\])$`)

const specForm = "[BIND:]PORT:TUNNEL:FARHOST:FARPORT"

// Loopback is where we listen if no BIND is given.
var Loopback = []string{"127.0.0.1", "::1"}

// ParseSpecs reads all --forward values. With an error, which says what is
// expected, comes the value that it is about.
func ParseSpecs(values []string) (specs []Spec, bad string, err error) {
	taken := map[string]string{}
	for _, v := range values {
		s, err := parseSpec(v)
		if err != nil {
			return nil, v, err
		}
		for _, end := range s.ends() {
			if other, ok := taken[end]; ok {
				return nil, v, fmt.Errorf("a port of its own, but %s is taken by %q", end, other)
			}
			taken[end] = v
		}
		specs = append(specs, s)
	}
	if len(specs) == 0 {
		return nil, "", errors.New(specForm)
	}
	return specs, "", nil
}

// ends are the ports and sockets that a forward needs for itself.
func (s Spec) ends() []string {
	near := s.Near
	if s.Network() == "tcp" {
		near = "port " + near
	}
	return []string{"port " + strconv.Itoa(s.Port), near}
}

// NearEnds are the near ends of all forwards.
func NearEnds(specs []Spec) []string {
	var all []string
	for _, s := range specs {
		all = append(all, s.Near)
	}
	return all
}

// Network is that of the near end: tcp or unix.
func (s Spec) Network() string {
	if strings.HasPrefix(s.Near, "/") {
		return "unix"
	}
	return "tcp"
}

// Address is where to dial the near end.
func (s Spec) Address() string {
	if s.Network() == "unix" {
		return s.Near
	}
	return net.JoinHostPort("localhost", s.Near)
}

// NearPort is the near end's port, or 0 if it is a Unix socket.
func (s Spec) NearPort() int {
	n, _ := strconv.Atoi(s.Near)
	return n
}

// parseSpec's errors say what is expected.
func parseSpec(v string) (Spec, error) {
	fields, err := splitSpec(v)
	if err != nil {
		return Spec{}, err
	}
	// FARHOST:FARPORT may be the path of a socket: one field less.
	far := 2
	if strings.HasPrefix(fields[len(fields)-1], "/") {
		far = 1
	}
	s := Spec{Binds: Loopback}
	switch len(fields) - far {
	case 3:
		if s.Binds, err = parseBind(fields[0]); err != nil {
			return Spec{}, err
		}
		fields = fields[1:]
	case 2:
	default:
		return Spec{}, errors.New(specForm)
	}
	if s.Port, err = parsePort("PORT", fields[0]); err != nil {
		return Spec{}, err
	}
	s.Near = fields[1]
	if s.Network() == "tcp" {
		near, err := parsePort("TUNNEL", s.Near)
		if err != nil {
			return Spec{}, errors.New("TUNNEL to be a port, or a path that begins with /")
		}
		s.Near = strconv.Itoa(near)
	} else if err := isSocketPath(s.Near); err != nil {
		return Spec{}, err
	}
	s.Far = strings.Join(fields[2:], ":")
	if far == 1 {
		return s, isSocketPath(s.Far)
	}
	if !farHost.MatchString(fields[2]) {
		return Spec{}, errors.New("a FARHOST: a name, or an address (IPv6 in brackets)")
	}
	_, err = parsePort("FARPORT", fields[3])
	return s, err
}

// maxSocketPath is one less than a socket's name can be, in bytes (unix(7)).
const maxSocketPath = 107

// isSocketPath returns an error if ssh would take path for another one
// (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES), or the kernel for none.
func isSocketPath(path string) error {
	switch {
	case strings.ContainsAny(path, `%$\`):
		return errors.New(`a socket's path without %, $ and \: ssh would replace them`)
	case len(path) > maxSocketPath:
		return fmt.Errorf("a socket's path of at most %d bytes", maxSocketPath)
	}
	return nil
}

// mailPorts are those where a server speaks SMTP first and in the clear: relay,
// submission (RFC 6409), and what providers offer beside them.
var mailPorts = []string{"25", "587", "2525"}

// smtps is where a server waits for TLS before it speaks (RFC 8314).
const smtps = "465"

// Speak settles whose clients get SMTP manners: protocol is smtp, tcp or auto,
// which goes by PORT and FARPORT. One of them may be a typing error.
func Speak(specs []Spec, protocol string) {
	for i := range specs {
		s := &specs[i]
		_, far, _ := net.SplitHostPort(s.Far)
		mail := far != smtps && (slices.Contains(mailPorts, far) || slices.Contains(mailPorts, strconv.Itoa(s.Port)))
		s.SMTP = protocol == "smtp" || protocol == "auto" && mail
	}
}

// splitSpec splits at colons that are not inside brackets.
func splitSpec(v string) ([]string, error) {
	var fields []string
	depth, from := 0, 0
	for i, c := range v {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c <= ' ' || c == 0x7f:
			return nil, errors.New(specForm + " without control characters")
		case c == ':' && depth == 0:
			fields, from = append(fields, v[from:i]), i+1
		}
		if depth < 0 || depth > 1 {
			return nil, errors.New("an IPv6 address in one pair of brackets")
		}
	}
	if depth != 0 {
		return nil, errors.New("an IPv6 address in one pair of brackets")
	}
	return append(fields, v[from:]), nil
}

func parsePort(name, v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 65535 || v[0] == '+' {
		return 0, fmt.Errorf("%s to be a port from 1 to 65535", name)
	}
	return n, nil
}

// parseBind reads an address to listen on: also localhost, and * for all.
func parseBind(v string) ([]string, error) {
	switch v {
	case "localhost":
		return Loopback, nil
	case "*":
		return []string{"0.0.0.0", "::"}, nil
	}
	bare := v
	if strings.HasPrefix(v, "[") {
		bare = v[1 : len(v)-1]
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil || strings.ContainsAny(bare, "[]") { // not even in a zone
		return nil, errors.New("BIND to be an address (IPv6 in brackets), localhost or *")
	}
	return []string{addr.String()}, nil
}

// Exposed reports whether other machines can reach the forward.
func (s Spec) Exposed() bool {
	for _, b := range s.Binds {
		if !netip.MustParseAddr(b).IsLoopback() {
			return true
		}
	}
	return false
}

// Loops reports whether a far end is a port of specs on this very machine, as host
// is: where one can listen at an address, it is this machine's.
func Loops(specs []Spec, far, host string) bool {
	at, port, _ := net.SplitHostPort(far)
	if !slices.Contains(append(slices.Clone(Loopback), "localhost"), at) || !slices.ContainsFunc(specs, func(s Spec) bool { return strconv.Itoa(s.Port) == port }) {
		return false
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err == nil {
		l.Close()
	}
	return err == nil
}

// OtherPort is one to take in place of port that needs no root: 2525 for 25.
func OtherPort(port int) int {
	if port < 1024 {
		return port + 2500
	}
	return (port-24)%64512 + 1024
}

// Lines are what ssh's -L takes, NEAR:FAR, of each forward.
func Lines(specs []Spec) []string {
	var all []string
	for _, s := range specs {
		all = append(all, s.Near+":"+s.Far)
	}
	return all
}
