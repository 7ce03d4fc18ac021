package openssh

import "testing"

func TestOnlyWhatAPersonHasToMendIsARejection(t *testing.T) {
	for _, line := range []string{
		"me@far: Permission denied (publickey)",
		"Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures",
		"Host key verification failed",
	} {
		if !Rejects(line) {
			t.Errorf("not taken for a rejection: %s", line)
		}
	}
	for _, line := range []string{
		"",
		"ssh: connect to host far port 22: Connection refused",
		"ssh: Could not resolve hostname far: Temporary failure in name resolution",
		"ssh: connect to host far port 22: No route to host",
		"cannot run ssh: fork/exec ssh: permission denied",
	} {
		if Rejects(line) {
			t.Errorf("taken for a rejection: %s", line)
		}
	}
}

func TestNearEndsAreFoundInComplaints(t *testing.T) {
	for line, want := range map[string]string{
		"channel_setup_fwd_listener_tcpip: cannot listen to port: 1025":                  "1025",
		"unix_listener: cannot bind to path /run/user/0/near end.sock: Address in use":   "/run/user/0/near end.sock",
		"unix_listener: cannot bind to path /run/user/0/near end.sock":                   "/run/user/0/near end.sock",
		"channel_setup_fwd_listener_tcpip: cannot listen to port: 10250":                 "10250",
		"channel_setup_fwd_listener_tcpip: cannot listen to port: 102":                   "102",
		"unix_listener: cannot bind to path /run/user/0/near end.sock.old: No such file": "/run/user/0/near end.sock.old",
		"bind [127.0.0.1]:1025: Address already in use":                                  "",
		"channel 2: open failed: connect failed: cannot listen to port":                  "",
		"cannot listen to port: ": "",
		"":                        "",
	} {
		if got := CannotListen(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestOnlySSHsWholeWordsSayThatTheHostHasLetUsIn(t *testing.T) {
	for line, want := range map[string]string{
		`Authenticated to far ([192.0.2.1]:22) using "publickey".`:       "[192.0.2.1]:22",
		`Authenticated to far ([2001:db8::1]:2222) using "none".`:        "[2001:db8::1]:2222",
		`Authenticated to far ([fe80::1%eth0]:22) using "publickey".`:    "[fe80::1%eth0]:22",
		`Authenticated to far ([192.0.2.1]:22).`:                         "[192.0.2.1]:22", // before 8.7
		`Authenticated to far (via proxy) using "publickey".`:            "",
		`Authenticated to far (via proxy).`:                              "",
		`Authenticated to this system you will be, when your key is in`:  "no",
		`Authenticated to far`:                                           "no",
		`Authenticated to far ([192.0.2.1]:22) using "publickey". Or so`: "no",
		`debug1: Authenticated to far (via proxy).`:                      "no",
	} {
		host, is := LetIn(line)
		if !is {
			host = "no"
		}
		if host != want {
			t.Errorf("%s: %q, want %q", line, host, want)
		}
	}
}

func TestChatterIsNoReason(t *testing.T) {
	for line, want := range map[string]bool{
		"Timeout, server far not responding.":                                    false,
		"debug1: client_input_global_request":                                    true,
		"Authenticated to far ([192.0.2.1]:22) using \"publickey\".":             true,
		"Warning: Permanently added 'far' (ED25519) to the list of known hosts.": true,
		"Transferred: sent 2440, received 2892 bytes, in 0.2 seconds":            true,
		"Bytes per second: sent 10.0, received 12.0":                             true,
		"Could not request local forwarding.":                                    true,
	} {
		if got := Chatter(line); got != want {
			t.Errorf("%q: chatter %t, want %t", line, got, want)
		}
	}
}
