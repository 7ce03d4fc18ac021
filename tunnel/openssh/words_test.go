package openssh

import (
	"slices"
	"strings"
	"testing"
)

// example is a line as a form describes it.
func example(form string) string {
	return blank.ReplaceAllStringFunc(form, func(word string) string {
		e, ok := map[string]string{
			"PROGRAM": "ssh", "FUNCTION": "ssh_dispatch_run_fatal", "RELEASE": "OpenSSH_9.2p1 Debian", "HOST": "far.test", "ADDRESS": "192.0.2.1", "PORT": "2222", "END": "1025", "N": "7", "USER": "me",
			"METHODS": "publickey,password", "METHOD": "publickey", "OPTION": "prot", "KEY": "ED25519", "FILE": "/home/me/.ssh/a file",
			"REASON": "some reason: or two", "TEXT": "some text",
		}[word]
		if !ok {
			return word
		}
		return e
	})
}

func TestEachFormIsKnownWholeAndOnlyWhole(t *testing.T) {
	for _, f := range forms {
		line := example(f.line)
		if got := parse(line); got.means != f.means || got.at != f.at {
			t.Errorf("%q: %q at %q, want %q at %q", line, got.means, got.at, f.means, f.at)
		}
		for _, part := range []string{"x" + line, "The admin writes: " + line, strings.TrimSuffix(line, line[len(line)-4:])} {
			if got := parse(part); got.means == f.means && !openEnded(f.line) {
				t.Errorf("%q is taken for %q", part, f.line)
			}
		}
	}
}

// openEnded reports whether a form has foreign words at one of its ends.
func openEnded(form string) bool {
	for _, b := range []string{"REASON", "TEXT", "OPTION", "END", "PORT", "HOST", "N", "FILE"} {
		if strings.HasSuffix(form, b) {
			return true
		}
	}
	first := blank.FindStringIndex(form)
	return first != nil && first[0] == 0
}

func TestEachMeaningSaysWhatItMeansForThePausesAndForAPerson(t *testing.T) {
	beside := []Meaning{Chatter, Detail, Partial, Leave}
	for _, f := range forms {
		if _, ok := meanings[f.means]; !ok && !slices.Contains(beside, f.means) {
			t.Errorf("%q has no entry", f.means)
		}
	}
	c := Case{Name: "far", Host: "far.test", Port: "2222", CopyKey: "ssh-copy-id far", Set: func(option string) string { return "minimail check --ssh-option " + option },
		ByHand: func(options ...string) string {
			return strings.Join(append([]string{"ssh"}, append(options, "far")...), " ")
		}}
	for m, known := range meanings {
		words, fixes := m.Advice(c)
		if words == "" && m != LetIn {
			t.Errorf("%q: no words", m)
		}
		if (len(fixes) > 0) != (known.fixes != nil) || slices.Contains(fixes, "") {
			t.Errorf("%q: %q", m, fixes)
		}
	}
	if words, fixes := Meaning("").Advice(c); words != "" || fixes != nil {
		t.Errorf("what is unknown is explained: %q %q", words, fixes)
	}
}

func TestALineNamesTheHostTheNearEndAndTheAddress(t *testing.T) {
	for line, want := range map[string]saying{
		`Authenticated to far ([192.0.2.1]:22) using "publickey".`:                               {host: "far", address: "[192.0.2.1]:22"},
		`Authenticated to far ([2001:db8::1]:2222) using "none".`:                                {host: "far", address: "[2001:db8::1]:2222"},
		`Authenticated to far ([fe80::1%eth0]:22) using "publickey".`:                            {host: "far", address: "[fe80::1%eth0]:22"},
		`Authenticated to far ([192.0.2.1]:22).`:                                                 {host: "far", address: "[192.0.2.1]:22"},
		`Authenticated to far (via proxy) using "publickey".`:                                    {host: "far"},
		`Authenticated to far (via proxy).`:                                                      {host: "far"},
		"me@example.com@jump: Permission denied (publickey).":                                    {host: "jump"},
		"No ED25519 host key is known for [jump]:2222 and you have requested strict checking.":   {host: "[jump]:2222"},
		"channel_setup_fwd_listener_tcpip: cannot listen to port: 1025":                          {end: "1025"},
		"unix_listener: cannot bind to path /run/user/0/near end.sock: Address already in use":   {end: "/run/user/0/near end.sock"},
		"unix_listener: cannot bind to path /run/a: b.sock: Address already in use":              {end: "/run/a: b.sock"},
		"unix_listener: cannot listen on path /run/near.sock: Operation not permitted":           {end: "/run/near.sock"},
		"ssh: connect to host far port 22: Connection refused":                                   {host: "far"},
		"Connection closed by 2001:db8::1 port 22":                                               {address: "[2001:db8::1]:22"},
		"channel 2: open failed: connect failed: unix_listener: cannot bind to path /x: Refused": {},
		"": {},
	} {
		if got := parse(line); got.host != want.host || got.end != want.end || got.address != want.address {
			t.Errorf("%q: host %q, end %q, address %q; want %q, %q, %q", line, got.host, got.end, got.address, want.host, want.end, want.address)
		}
	}
}
