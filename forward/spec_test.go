package forward

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestAForwardIsReadAsSSHReadsItsL(t *testing.T) {
	long := "/" + strings.Repeat("x", maxSocketPath-1)
	for v, want := range map[string]Spec{
		"25:1025:localhost:25":            {Binds: Loopback, Port: 25, Near: "1025", Far: "localhost:25"},
		"localhost:25:1025:far.test:2525": {Binds: Loopback, Port: 25, Near: "1025", Far: "far.test:2525"},
		"127.0.0.1:25:1025:localhost:25":  {Binds: []string{"127.0.0.1"}, Port: 25, Near: "1025", Far: "localhost:25"},
		"[::1]:25:1025:[2001:db8::1]:25":  {Binds: []string{"::1"}, Port: 25, Near: "1025", Far: "[2001:db8::1]:25"},
		"[0:0::1]:25:1025:localhost:25":   {Binds: []string{"::1"}, Port: 25, Near: "1025", Far: "localhost:25"},
		"*:25:1025:localhost:25":          {Binds: []string{"0.0.0.0", "::"}, Port: 25, Near: "1025", Far: "localhost:25"},
		"0.0.0.0:1:65535:localhost:65535": {Binds: []string{"0.0.0.0"}, Port: 1, Near: "65535", Far: "localhost:65535"},
		"25:/run/mm.sock:localhost:25":    {Binds: Loopback, Port: 25, Near: "/run/mm.sock", Far: "localhost:25"},
		"25:1025:/run/far.sock":           {Binds: Loopback, Port: 25, Near: "1025", Far: "/run/far.sock"},
		"25:" + long + ":" + long:         {Binds: Loopback, Port: 25, Near: long, Far: long},
		"25:1025:far!host:25":             {Binds: Loopback, Port: 25, Near: "1025", Far: "far!host:25"},
		"[::1]:25:/near:/far":             {Binds: []string{"::1"}, Port: 25, Near: "/near", Far: "/far"},
		"025:01025:localhost:25":          {Binds: Loopback, Port: 25, Near: "1025", Far: "localhost:25"},
	} {
		got, err := parseSpec(v)
		if err != nil {
			t.Errorf("%s: %v", v, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is\n%+v, want\n%+v", v, got, want)
		}
	}
}

func TestAnUnusableForwardIsRefusedWithWhatIsExpected(t *testing.T) {
	const (
		controls = specForm + " without control characters"
		tunnel   = "TUNNEL to be a port, or a path that begins with /"
		farhost  = "a FARHOST: a name, or an address (IPv6 in brackets)"
		bind     = "BIND to be an address (IPv6 in brackets), localhost or *"
		brackets = "an IPv6 address in one pair of brackets"
		tokens   = `a socket's path without %, $ and \: ssh would replace them`
		length   = "a socket's path of at most 107 bytes"
	)
	long := "/" + strings.Repeat("x", maxSocketPath)
	for v, want := range map[string]string{
		"":                             specForm,
		"25":                           specForm,
		"25:1025":                      specForm,
		"25:1025:local\x7fhost:25":     controls,
		"25:1025:25":                   specForm,
		"::1:25:1025:localhost:25":     specForm,
		"a:b:25:1025:localhost:25":     specForm,
		"0:1025:localhost:25":          "PORT to be a port from 1 to 65535",
		":1025:localhost:25":           "PORT to be a port from 1 to 65535",
		"+25:1025:localhost:25":        "PORT to be a port from 1 to 65535",
		"25.0:1025:localhost:25":       "PORT to be a port from 1 to 65535",
		"65536:1025:localhost:25":      "PORT to be a port from 1 to 65535",
		"25:65536:localhost:25":        tunnel,
		"25:mm.sock:localhost:25":      tunnel,
		"25::localhost:25":             tunnel,
		"25:1025:localhost:0":          "FARPORT to be a port from 1 to 65535",
		"25:1025:localhost:smtp":       "FARPORT to be a port from 1 to 65535",
		"25:1025::25":                  farhost,
		"25:1025:[]:25":                farhost,
		"25:1025:a[b]:25":              farhost,
		"25:1025:[a]b:25":              farhost,
		"25:1025:/run/far.sock:25":     farhost,
		"Far:25:1025:localhost:25":     bind,
		":25:1025:localhost:25":        bind,
		"[]:25:1025:localhost:25":      bind,
		"[::%]0:25:1025:localhost:25":  bind,
		"[::1]0:25:1025:localhost:25":  bind,
		"127.1:25:1025:localhost:25":   bind,
		"[::1:25:1025:localhost:25":    brackets,
		"::1]:25:1025:localhost:25":    brackets,
		"[[::1]]:25:1025:localhost:25": brackets,
		"25:1025:local host:25":        controls,
		"25:1025:localhost:25\n":       controls,
		"25:1025:local\x00host:25":     controls,
		"25:/run/%u:localhost:25":      tokens,
		"25:/run/$U:localhost:25":      tokens,
		"25:1025:/run/a\\b":            tokens,
		"25:" + long + ":localhost:25": length,
		"25:1025:" + long:              length,
	} {
		got, err := parseSpec(v)
		if err == nil {
			t.Errorf("%q is taken for %+v", v, got)
		} else if err.Error() != want {
			t.Errorf("%q: %q, want %q", v, err, want)
		}
	}
}

func TestNoTwoForwardsShareAnEnd(t *testing.T) {
	for _, c := range []struct {
		values []string
		bad    string // "" if all is well
	}{
		{[]string{"25:1025:a:25"}, ""},
		{[]string{"25:1025:a:25", "26:1026:a:25"}, ""},
		{[]string{"25:/a:a:25", "26:/b:a:25"}, ""},
		{[]string{"25:1025:a:25", "25:1026:a:26"}, "25:1026:a:26"},
		{[]string{"127.0.0.1:25:1025:a:25", "[::1]:25:1026:a:26"}, "[::1]:25:1026:a:26"},
		{[]string{"25:1025:a:25", "26:1025:b:25"}, "26:1025:b:25"},
		{[]string{"25:1025:a:25", "26:01025:b:25"}, "26:01025:b:25"},
		{[]string{"25:1025:a:25", "1025:26:b:25"}, "1025:26:b:25"},
		{[]string{"25:25:a:25"}, "25:25:a:25"},
		{[]string{"25:/a:a:25", "26:/a:b:25"}, "26:/a:b:25"},
		{[]string{"25:1025:a:25", "nonsense"}, "nonsense"},
	} {
		specs, bad, err := ParseSpecs(c.values)
		if bad != c.bad || (err != nil) != (c.bad != "") {
			t.Errorf("%q: blames %q (%v), want %q", c.values, bad, err, c.bad)
		}
		if err == nil && len(specs) != len(c.values) {
			t.Errorf("%q are %d forwards", c.values, len(specs))
		}
	}
	if _, _, err := ParseSpecs(nil); err == nil {
		t.Error("no forward at all is fine")
	}
}

func TestOnlyLoopbackIsNotExposed(t *testing.T) {
	for v, want := range map[string]bool{
		"25:1025:a:25":                     false,
		"localhost:25:1025:a:25":           false,
		"127.1.2.3:25:1025:a:25":           false,
		"[::1]:25:1025:a:25":               false,
		"*:25:1025:a:25":                   true,
		"0.0.0.0:25:1025:a:25":             true,
		"[::]:25:1025:a:25":                true,
		"192.0.2.1:25:1025:a:25":           true,
		"[fe80::1%lo]:25:1025:a:25":        true,
		"[::ffff:192.0.2.1]:25:1025:a:25":  true,
		"[::ffff:127.0.0.1]:25:1025:a:25":  false,
		"[2001:db8::1]:25:1025:[::1]:25":   true,
		"127.0.0.1:25:/run/s:/run/far":     false,
		"169.254.0.1:25:/run/s:/run/far":   true,
		"[2001:db8::1]:25:/run/s:/run/far": true,
	} {
		s, err := parseSpec(v)
		if err != nil {
			t.Errorf("%s: %v", v, err)
		} else if got := s.Exposed(); got != want {
			t.Errorf("%s is exposed: %v, want %v", v, got, want)
		}
	}
}

func TestTheNearEndIsDialedWhereSSHListens(t *testing.T) {
	for v, want := range map[string][2]string{
		"25:1025:a:25":       {"tcp", "localhost:1025"},
		"25:/run/x.sock:a:1": {"unix", "/run/x.sock"},
	} {
		s, err := parseSpec(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{s.Network(), s.Address()}; got != want {
			t.Errorf("%s is at %q, want %q", v, got, want)
		}
		if n := map[string]int{"tcp": 1025, "unix": 0}[s.Network()]; s.NearPort() != n {
			t.Errorf("%s is at port %d", v, s.NearPort())
		}
	}
}

func TestMailPortsSpeakSMTPUnlessToldOtherwise(t *testing.T) {
	for _, c := range []struct {
		port, far, protocol string
		want                bool
	}{
		{"2000", "far:25", "auto", true}, {"2000", "[::1]:587", "auto", true}, {"2000", "far:2525", "auto", true},
		{"2000", "far:465", "auto", false}, {"2000", "far:80", "auto", false}, {"2000", "/run/25", "auto", false},
		{"2525", "far:26", "auto", true}, {"25", "/run/smtp", "auto", true}, {"587", "far:80", "auto", true},
		{"2525", "far:465", "auto", false}, {"8025", "far:465", "smtp", true},
		{"25", "far:25", "tcp", false}, {"2000", "far:80", "smtp", true}, {"2000", "/run/far", "smtp", true},
	} {
		s, err := parseSpec(c.port + ":1025:" + c.far)
		if err != nil {
			t.Fatal(err)
		}
		specs := []Spec{s}
		Speak(specs, c.protocol)
		if specs[0].SMTP != c.want {
			t.Errorf("%s to %s with %s speaks SMTP: %v, want %v", c.port, c.far, c.protocol, specs[0].SMTP, c.want)
		}
	}
}

// FuzzParseSpec: what is accepted is made of usable parts, and written anew
// from these it is the same.
func FuzzParseSpec(f *testing.F) {
	for _, v := range []string{
		"25:1025:localhost:25", "[::1]:25:/near:/far", "*:25:1025:[2001:db8::1]:25", "localhost:1:2:h:3", "[fe80::1%lo]:1:2:h:3",
		"", ":::", "[", "]", "[]:1:2:3:4", "1:2:/[a:b]", "+1:2:h:3", "1:2:h:03", "[::ffff:1.2.3.4]:1:2:h:3", "1:/:/", "\xff:1:2:h:3", "[::%]0:1:1:0:1", "1:1:0[]:1",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		s, err := parseSpec(v)
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: the error is %q", v, err)
			}
			return
		}
		if s.Port < 1 || s.Port > 65535 {
			t.Errorf("%q: port %d", v, s.Port)
		}
		if n, err := strconv.Atoi(s.Near); s.Network() == "tcp" && (err != nil || n < 1 || n > 65535) {
			t.Errorf("%q: near end %q", v, s.Near)
		}
		if _, port, _ := net.SplitHostPort(s.Far); !strings.HasPrefix(s.Far, "/") {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				t.Errorf("%q: far end %q", v, s.Far)
			}
		}
		for _, b := range s.Binds {
			if _, err := netip.ParseAddr(b); err != nil {
				t.Errorf("%q: binds %q: %v", v, b, err)
			}
		}
		again, err := parseSpec(written(s))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%q is %+v, but %q is %+v (%v)", v, s, written(s), again, err)
		}
	})
}

// written is the SPEC of a forward.
func written(s Spec) string {
	bind := "[" + s.Binds[0] + "]:"
	switch {
	case slices.Equal(s.Binds, Loopback):
		bind = ""
	case len(s.Binds) == 2:
		bind = "*:"
	}
	return bind + strconv.Itoa(s.Port) + ":" + s.Near + ":" + s.Far
}

func TestNearEndsAreThoseOfAllForwards(t *testing.T) {
	got := NearEnds([]Spec{{Near: "1025"}, {Near: "/run/near"}})
	if want := []string{"1025", "/run/near"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAFarEndIsOursOnlyOnThisMachine: behind another one, its port 25 is its own.
func TestAFarEndIsOursOnlyOnThisMachine(t *testing.T) {
	specs := []Spec{{Port: 25}, {Port: 587}}
	for _, c := range []struct {
		far, host string
		want      bool
	}{
		{"localhost:25", "127.0.0.1", true},
		{"127.0.0.1:587", "127.0.0.1", true},
		{"localhost:26", "127.0.0.1", false},
		{"mail.example.com:25", "127.0.0.1", false},
		{"localhost:25", absent(t, 1)[0], false},
		{"/run/mail", "127.0.0.1", false},
	} {
		before := openFiles()
		if got := Loops(specs, c.far, c.host); got != c.want {
			t.Errorf("%s, by %s: %v, want %v", c.far, c.host, got, c.want)
		}
		if n := openFiles(); n > before {
			t.Errorf("%d descriptors are open, %d were before", n, before)
		}
	}
}

// TestAnotherPortNeedsNoRoot, and is another one.
func TestAnotherPortNeedsNoRoot(t *testing.T) {
	for port := 1; port <= 65535; port++ {
		if got := OtherPort(port); got < 1024 || got > 65535 || got == port {
			t.Errorf("%d for %d", got, port)
		}
	}
	for port, want := range map[int]int{25: 2525, 587: 3087, 1023: 3523, 1024: 2024, 2525: 3525, 60000: 61000, 64535: 65535, 64536: 1024} {
		if got := OtherPort(port); got != want {
			t.Errorf("%d for %d, want %d", got, port, want)
		}
	}
}

func TestTheLinesOfAllForwardsAreSSHs(t *testing.T) {
	got := Lines([]Spec{{Near: "1025", Far: "localhost:25"}, {Near: "/near", Far: "/far"}})
	if want := []string{"1025:localhost:25", "/near:/far"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
