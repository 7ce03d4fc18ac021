package main

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

// A forwardSpec is one --forward.
type forwardSpec struct {
	binds []string // addresses to listen on
	port  int
	near  string // ssh's local end: a port, or the absolute path of a Unix socket
	far   string // the rest of ssh's -L: HOST:PORT, or the absolute path of a socket
	smtp  bool   // its clients speak SMTP
}

// farHost is resolved over there: a name, or an address (IPv6 in brackets).
var farHost = regexp.MustCompile(`^([^][/][^][]*|\[[^][]+\])$`)

const specForm = "[BIND:]PORT:TUNNEL:FARHOST:FARPORT"

// loopback is where we listen if no BIND is given.
var loopback = []string{"127.0.0.1", "::1"}

// parseForwards reads all --forward values. With an error comes the value that
// it is about.
func parseForwards(values []string) (specs []forwardSpec, bad string, err error) {
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
func (s forwardSpec) ends() []string {
	near := s.near
	if s.network() == "tcp" {
		near = "port " + near
	}
	return []string{"port " + strconv.Itoa(s.port), near}
}

func (s forwardSpec) network() string {
	if strings.HasPrefix(s.near, "/") {
		return "unix"
	}
	return "tcp"
}

// address is where to dial the near end.
func (s forwardSpec) address() string {
	if s.network() == "unix" {
		return s.near
	}
	return net.JoinHostPort("localhost", s.near)
}

// parseSpec's errors say what is expected.
func parseSpec(v string) (forwardSpec, error) {
	var s forwardSpec
	fields, err := splitSpec(v)
	if err != nil {
		return s, err
	}
	// FARHOST:FARPORT may be the path of a socket: one field less.
	far := 2
	if strings.HasPrefix(fields[len(fields)-1], "/") {
		far = 1
	}
	s.binds = loopback
	switch len(fields) - far {
	case 3:
		if s.binds, err = parseBind(fields[0]); err != nil {
			return s, err
		}
		fields = fields[1:]
	case 2:
	default:
		return s, errors.New(specForm)
	}
	if s.port, err = parsePort("PORT", fields[0]); err != nil {
		return s, err
	}
	s.near = fields[1]
	if s.network() == "tcp" {
		near, err := parsePort("TUNNEL", s.near)
		if err != nil {
			return s, errors.New("TUNNEL to be a port, or a path that begins with /")
		}
		s.near = strconv.Itoa(near)
	}
	s.far = strings.Join(fields[2:], ":")
	if far == 2 {
		if !farHost.MatchString(fields[2]) {
			return s, errors.New("a FARHOST: a name, or an address (IPv6 in brackets)")
		}
		if _, err = parsePort("FARPORT", fields[3]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// mailPorts are those where a server speaks SMTP first and in the clear: relay,
// submission (RFC 6409), and what providers offer beside them.
var mailPorts = []string{"25", "587", "2525"}

// speak settles whose clients get SMTP manners: protocol is smtp, tcp or auto.
func speak(specs []forwardSpec, protocol string) {
	for i := range specs {
		_, port, _ := net.SplitHostPort(specs[i].far)
		specs[i].smtp = protocol == "smtp" || protocol == "auto" && slices.Contains(mailPorts, port)
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
		return loopback, nil
	case "*":
		return []string{"0.0.0.0", "::"}, nil
	}
	bare := v
	if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") {
		bare = v[1 : len(v)-1]
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil || strings.ContainsAny(bare, "[]") { // not even in a zone
		return nil, errors.New("BIND to be an address (IPv6 in brackets), localhost or *")
	}
	return []string{addr.String()}, nil
}

// exposed tells whether other machines can reach the forward.
func (s forwardSpec) exposed() bool {
	for _, b := range s.binds {
		if !netip.MustParseAddr(b).IsLoopback() {
			return true
		}
	}
	return false
}
