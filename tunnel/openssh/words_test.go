package openssh

import (
	"reflect"
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

// TestALineWithItsPlaceMeansTheSame: LogVerbose has it in front, and the function's
// name then stands only there.
func TestALineWithItsPlaceMeansTheSame(t *testing.T) {
	for _, f := range forms {
		line := example(f.line)
		level, text, _ := strings.Cut(line, ": ")
		if !strings.HasPrefix(level, "debug") {
			level, text = "", line
		} else {
			level += ": "
		}
		function, rest, _ := strings.Cut(text, ": ")
		if !strings.Contains(function, "_") || strings.ContainsAny(function, " [@/") {
			function, rest = "main", text
		}
		for _, said := range []string{
			level + "ssh.c:main():2315 (pid=1205): " + text,
			level + "kex.c:" + function + "():7 (bin=ssh, pid=1205): " + rest,
		} {
			if got := parse(bare(said)); got.means != f.means || got.at != f.at {
				t.Errorf("%q: %q at %q, want %q at %q", said, got.means, got.at, f.means, f.at)
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

// TestAServerMayGiveNoReason: other servers than OpenSSH's often leave it empty.
func TestAServerMayGiveNoReason(t *testing.T) {
	for line, want := range map[string]Meaning{
		"channel 2: open failed: administratively prohibited:": Forbidden,
		"channel 2: open failed: connect failed:":              FarRefused,
		"Received disconnect from 192.0.2.1 port 22:11:":       SentAway,
		"channel 2: open failed":                               "",
	} {
		if got := parse(line).means; got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestEachMeaningSaysWhatItMeansForThePausesAndForAPerson(t *testing.T) {
	beside := []Meaning{Chatter, Detail, Partial, Leave}
	for _, f := range forms {
		if _, ok := meanings[f.means]; !ok && !slices.Contains(beside, f.means) {
			t.Errorf("%q has no entry", f.means)
		}
	}
	c := Case{Command: Command{Program: "ssh", Host: "far"}, Quote: func(words ...string) string { return strings.Join(words, " ") }}
	for m, known := range meanings {
		words, fixes := m.Advice(c)
		if words == "" && m != LetIn && m != "" {
			t.Errorf("%q: no words", m)
		}
		if (len(fixes) > 0) != (known.fixes != nil) || slices.Contains(fixes, "") {
			t.Errorf("%q: %q", m, fixes)
		}
	}
	c.Far = "/run/far"
	for m, known := range meanings {
		want := known.words
		if m == Forbidden || m == FarRefused {
			want = meanings[FarSocket].words
		}
		if words, _ := m.Advice(c); words != want {
			t.Errorf("%q of a socket: %q", m, words)
		}
	}
	if words, _ := Meaning("").Advice(c); words != "" {
		t.Errorf("what is unknown is explained: %q", words)
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

// TestAnyLineIsParsedAsACommand: a helper's may look like an ssh's.
func TestAnyLineIsParsedAsACommand(t *testing.T) {
	for line, want := range map[string]Command{
		"":                 {},
		"ssh":              {},
		"ssh far":          {Program: "ssh", Host: "far"},
		"ssh -F":           {Program: "ssh", Host: "-F"},
		"ssh -F far":       {Program: "ssh", Host: "far", ConfigFile: "far"},
		"exec ssh -v -p":   {Program: "ssh", Host: "-p"},
		"ssh -l -p far":    {Program: "ssh", Host: "far", Options: []string{"User=-p"}},
		"ssh -x -p 22 far": {Program: "ssh", Host: "far", Options: []string{"Port=22"}},
	} {
		if got := ParseCommand(line); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

// Each line is one of OpenSSH's.
func TestWhatSSHSaysAtAFailedLoginIsExplained(t *testing.T) {
	c := Case{Command: Command{Program: "ssh", Host: "far", Options: []string{"User=me"}}, Config: Config{"hostname": {"far.example"}, "port": {"22"}}, Key: "/key",
		Quote: func(words ...string) string { return strings.Join(words, " ") }}
	jump := c
	jump.OnTheWay, jump.Command = true, ParseCommand("ssh -J other -l me -p 2222 -F /cfg -v -W '[%h]:%p' jump")
	for said, want := range map[string][3]string{
		"me@far.example: Permission denied (publickey).":                                    {"does not accept the key", "ssh-copy-id -i /key.pub -o User=me far", "ssh-copy-id -i /key.pub -F /cfg -o ProxyJump=other -o User=me -o Port=2222 jump"},
		"me@far.example: Permission denied (password).":                                     {"takes no keys", "in the sshd_config of far: PubkeyAuthentication yes", "in the sshd_config of jump: "},
		"Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures":    {"too many keys", "minimail check --ssh-option IdentitiesOnly=yes", "# in ssh_config, below Host jump: IdentitiesOnly yes"},
		"ssh: connect to host far.example port 22: Connection timed out":                    {"a firewall drops it", "nc -vz far.example 22", "nc -vz far.example 22"},
		"ssh: connect to host far.example port 22: Connection refused":                      {"no sshd listens", "minimail check --ssh-option Port=N", "# in ssh_config, below Host jump: Port N"},
		"ssh: Could not resolve hostname far.example: Temporary failure in name resolution": {"no name service", "getent hosts far.example", "below Host jump: HostName NAME"},
		"kex_exchange_identification: read: Connection reset by peer":                       {"fail2ban", "fail2ban", "fail2ban"},
		"kex_exchange_identification: banner line contains invalid characters":              {"not an sshd", "Port=N", "Port N"},
		"Host key verification failed.":                                                     {"not known", "ssh -o StrictHostKeyChecking=ask -o User=me -- far", "ssh -o StrictHostKeyChecking=ask -F /cfg -o ProxyJump=other -o User=me -o Port=2222 -- jump"},
		"KnownHostsCommand failed":                                                          {"whether the host is known is not known", "minimail check --ssh-option KnownHostsCommand=none", "below Host jump: KnownHostsCommand none"},
		"something new":                                                                     {"", "ssh -v -o User=me -- far", "-- jump"},
	} {
		_, v := readAll(false, own(said))
		words, fixes := v.Means.Advice(c)
		if all := strings.Join(fixes, "\n"); !strings.Contains(words, want[0]) || !strings.Contains(all, want[1]) {
			t.Errorf("%s: %s, %s", said, words, all)
		}
		if _, fixes := v.Means.Advice(jump); !strings.Contains(strings.Join(fixes, "\n"), want[2]) {
			t.Errorf("%s, by a jump host: %q", said, fixes)
		}
	}
	for host, want := range map[string]string{
		"me@far:2222":      "minimail check --host me@far --ssh-option Port=2222",
		"me@[::1]":         "minimail check --host me@::1",
		"[::1]:2222":       "minimail check --host ::1 --ssh-option Port=2222",
		"far":              "getent hosts far.example # must print an address",
		"me@::1":           "getent hosts far.example # must print an address",
		"far:ssh":          "getent hosts far.example # must print an address",
		"ssh://me@far:222": "getent hosts far.example # must print an address",
	} {
		c.Host = host
		if _, fixes := NoSuchHost.Advice(c); fixes[0] != want {
			t.Errorf("%s: %q", host, fixes)
		}
	}
}
