package openssh

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// A said is a line, and where.
type said struct {
	line string
	log  bool
}

// own are lines of ssh's log, rest of its standard error.
func own(lines ...string) (all []said) {
	for _, l := range lines {
		all = append(all, said{l, true})
	}
	return all
}

func rest(lines ...string) (all []said) {
	for _, l := range lines {
		all = append(all, said{l, false})
	}
	return all
}

// readAll returns what is known after the last of the lines that says something.
func readAll(jumps bool, lines ...[]said) (h Heard, v Verdict) {
	r := NewReader(func() bool { return jumps })
	for _, part := range lines {
		for _, s := range part {
			if now := r.Read(s.line, s.log); now.Why != "" {
				h = now
			}
		}
	}
	r.Verdict() // which changes nothing
	return h, r.Verdict()
}

const (
	closedEarly = "kex_exchange_identification: Connection closed by remote host"
	wayClosed   = "Connection closed by UNKNOWN port 65535"
	wayBroken   = "banner exchange: Connection to UNKNOWN port 65535: Broken pipe"
	denied      = "me@far: Permission denied (publickey)."
	letIn       = `Authenticated to far ([192.0.2.1]:22) using "publickey".`
)

func TestWhatALaunchHasSaid(t *testing.T) {
	const pam = "Your account has expired; please contact your system administrator."
	for name, test := range map[string]struct {
		jumps bool
		lines [][]said
		why   string
		fail  string
		means Meaning
		host  string
		onWay bool
	}{
		"a refused key": {lines: [][]said{own(denied)}, why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"a key that cannot be read": {lines: [][]said{own(`Load key "/home/me/.ssh/id": error in libcrypto`, denied)},
			why: `me@far: Permission denied (publickey) (Load key "/home/me/.ssh/id": error in libcrypto)`, fail: Definite, means: KeyRefused, host: "far"},
		"a password wanted": {lines: [][]said{own("me@far: Permission denied (password,keyboard-interactive).")},
			why: "me@far: Permission denied (password,keyboard-interactive)", fail: Definite, means: OtherWanted, host: "far"},
		"a second factor wanted": {lines: [][]said{own(`Authenticated using "publickey" with partial success.`, "me@far: Permission denied (keyboard-interactive).")},
			why: `me@far: Permission denied (keyboard-interactive) (Authenticated using "publickey" with partial success)`, fail: Definite, means: MoreWanted, host: "far"},
		"too many keys": {lines: [][]said{own("Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", "Disconnected from 192.0.2.1 port 22")},
			why: "Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", fail: Definite, means: TooManyKeys},
		"sent away": {lines: [][]said{own("Received disconnect from 192.0.2.1 port 22:11: come back tomorrow", "Disconnected from 192.0.2.1 port 22")},
			why: "Received disconnect from 192.0.2.1 port 22:11: come back tomorrow", fail: Unclear, means: SentAway},
		"two jump hosts, of which the first lets in": {lines: [][]said{own(implicit + "ssh -J a -v -W '[%h]:%p' b"), rest(implicit+"ssh -v -W '[%h]:%p' a", letIn), own("Connection timed out during banner exchange", "Connection to UNKNOWN port 65535 timed out")},
			why: "on the way to the host: Connection timed out during banner exchange", fail: Hidden, means: WaySilent, onWay: true},
		"a host that hangs up behind a jump host": {lines: [][]said{own(implicit + "ssh -v -W '[%h]:%p' a"), rest(letIn), own(closedEarly, wayClosed)},
			why: closedEarly, fail: Early, means: HungUp},
		"a host that is gone before ssh's first line, behind a jump host": {lines: [][]said{own(implicit + "ssh -v -W '[%h]:%p' a"), rest(letIn), own(wayBroken)},
			why: wayBroken, fail: Early, means: HungUp},
		"an account that has expired": {lines: [][]said{rest("Welcome", pam), own("Connection closed by 192.0.2.1 port 22")},
			why: "Connection closed by 192.0.2.1 port 22, after it had said: Your account has expired; please contact your system administrator", fail: Unclear, means: Closed},
		"a login cut off":           {lines: [][]said{own("Connection reset by 192.0.2.1 port 22")}, why: "Connection reset by 192.0.2.1 port 22", fail: Unclear, means: Closed},
		"a login that falls silent": {lines: [][]said{own("Connection to 192.0.2.1 port 22 timed out")}, why: "Connection to 192.0.2.1 port 22 timed out", fail: Unclear, means: TimedOut},
		"a ban":                     {lines: [][]said{own(closedEarly, "Connection closed by 192.0.2.1 port 22")}, why: closedEarly, fail: Early, means: HungUp},
		"a silent banner":           {lines: [][]said{own("Connection timed out during banner exchange", "Connection to 192.0.2.1 port 22 timed out")}, why: "Connection timed out during banner exchange", fail: Hidden, means: Silent},
		"a way that is silent": {jumps: true, lines: [][]said{own("Connection timed out during banner exchange", "Connection to UNKNOWN port 65535 timed out")},
			why: "Connection timed out during banner exchange", fail: Hidden, means: WaySilent},
		"a helper that falls silent in the middle": {lines: [][]said{own("Connection to UNKNOWN port 65535 timed out")},
			why: "Connection to UNKNOWN port 65535 timed out", fail: Hidden, means: WaySilent},
		"no sshd": {lines: [][]said{own("kex_exchange_identification: banner line contains invalid characters", "banner exchange: Connection to 192.0.2.1 port 25: invalid format")},
			why: "kex_exchange_identification: banner line contains invalid characters", fail: Early, means: NotSSH},
		"an unknown host key": {lines: [][]said{own("No ED25519 host key is known for far and you have requested strict checking.", "Host key verification failed.")},
			why: "Host key verification failed (No ED25519 host key is known for far and you have requested strict checking)", fail: Definite, means: HostKey, host: "far"},
		"a changed host key that is not checked": {lines: [][]said{own("Offending ED25519 key in /kh:1", "Port forwarding is disabled to avoid man-in-the-middle attacks.", "UpdateHostkeys is disabled because the host key is not trusted.", letIn)},
			why: "Port forwarding is disabled to avoid man-in-the-middle attacks (Offending ED25519 key in /kh:1)", fail: Definite, means: HostKey},
		"a host key that is revoked": {lines: [][]said{own("ED25519 host key for far was revoked and you have requested strict checking.", "Host key verification failed.")},
			why: "Host key verification failed (ED25519 host key for far was revoked and you have requested strict checking)", fail: Definite, means: Revoked, host: "far"},
		"a host key that is in the file of RevokedHostKeys": {lines: [][]said{own("Host key ED25519 SHA256:abc revoked by file /kh", "Host key verification failed.")},
			why: "Host key verification failed (Host key ED25519 SHA256:abc revoked by file /kh)", fail: Definite, means: Revoked},
		"a file of RevokedHostKeys that is not there": {lines: [][]said{own("Error checking host key ED25519 SHA256:abc in revoked keys file /kh: No such file or directory", "Host key verification failed.")},
			why: "Host key verification failed (Error checking host key ED25519 SHA256:abc in revoked keys file /kh: No such file or directory)", fail: Definite, means: Unchecked},
		"a host key that is too short": {lines: [][]said{own("Bad server host key: Invalid key length")}, why: "Bad server host key: Invalid key length", fail: Definite, means: WeakHostKey},
		"an agent that does not sign": {lines: [][]said{own(`sign_and_send_pubkey: signing failed for ED25519 "k" from agent: agent refused operation`, denied)},
			why: `me@far: Permission denied (publickey) (sign_and_send_pubkey: signing failed for ED25519 "k" from agent: agent refused operation)`, fail: Definite, means: NotSigned, host: "far"},
		"a value that cannot be expanded": {lines: [][]said{own("vdollar_percent_expand: env var ${X} has no value", "invalid environment variable expansion")},
			why: "invalid environment variable expansion (vdollar_percent_expand: env var ${X} has no value)", fail: Definite, means: BadSettings},
		"an sshd that speaks only SSH 1": {lines: [][]said{own("Protocol major versions differ: 2 vs. 1", "banner exchange: Connection to 192.0.2.1 port 22: could not read protocol version")},
			why: "Protocol major versions differ: 2 vs. 1", fail: Definite, means: NothingShared},
		"a connection that was gone at once": {lines: [][]said{own("Connection reset by UNKNOWN port -1")}, why: "Connection reset by UNKNOWN port -1", fail: Unclear, means: Closed},
		"an sshd too old": {lines: [][]said{own("Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss")},
			why: "Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss", fail: Definite, means: NothingShared},
		"no network": {lines: [][]said{own("ssh: connect to host far port 22: No route to host")}, why: "ssh: connect to host far port 22: No route to host", fail: Unseen, means: NoAnswer, host: "far"},
		"an address of ours that is not here": {lines: [][]said{own("bind 192.0.2.7: Cannot assign requested address", "ssh: connect to host far port 22: failure")},
			why: "ssh: connect to host far port 22: failure (bind 192.0.2.7: Cannot assign requested address)", fail: Unseen, means: NotFromHere, host: "far"},
		"a notice before": {lines: [][]said{own("** WARNING: connection is not using a post-quantum key exchange algorithm.", "** The server may need to be upgraded. See https://openssh.com/pq.html", denied)},
			why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"with LogLevel=DEBUG": {lines: [][]said{own("debug1: /etc/ssh/ssh_config line 2: Applying options for *", "debug1: Host key verification failed.", denied)},
			why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"a bad line of ssh_config": {lines: [][]said{own("/home/me/.ssh/config line 3: Bad port 'x'.", "/home/me/.ssh/config: terminating, 1 bad configuration options")},
			why: "/home/me/.ssh/config: terminating, 1 bad configuration options (/home/me/.ssh/config line 3: Bad port 'x')", fail: Definite, means: BadSettings},
		"a bad option, before there is a log": {lines: [][]said{rest("command-line: line 0: Bad configuration option: prot")},
			why: "command-line: line 0: Bad configuration option: prot", fail: Definite, means: BadSettings},
		"a chroot without /dev/stdout": {lines: [][]said{rest("Couldn't open logfile /dev/stdout: No such file or directory")},
			why: "Couldn't open logfile /dev/stdout: No such file or directory", fail: Unseen, means: NoStdout},
		"a user whom the name service does not know now": {lines: [][]said{rest("No user exists for uid 1001")},
			why: "No user exists for uid 1001", fail: Unseen, means: NoSuchUser},
		"a program that has no log":      {lines: [][]said{rest(denied)}, why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"a line that nobody knows":       {lines: [][]said{own("fatal: moon in the wrong phase")}, why: "fatal: moon in the wrong phase", fail: Unclear},
		"a reason, and such a line":      {lines: [][]said{own(denied, "moon in the wrong phase")}, why: "moon in the wrong phase", fail: Unclear},
		"an unknown line of a helper's":  {lines: [][]said{rest("sh: 1: nc: not found"), own(closedEarly, wayClosed)}, why: "the way to the host has ended: sh: 1: nc: not found", fail: Hidden, means: WayEnded},
		"a way that ends without a word": {lines: [][]said{own(closedEarly, wayClosed)}, why: "Connection closed by UNKNOWN port 65535", fail: Hidden, means: WayEnded},
		"a jump host that refuses the key": {jumps: true, lines: [][]said{rest("me@jump: Permission denied (publickey)."), own(closedEarly, wayClosed)},
			why: "on the way to the host: me@jump: Permission denied (publickey)", fail: Definite, means: JumpRefused, host: "jump", onWay: true},
		"a jump host that nobody knows": {jumps: true, lines: [][]said{rest("No ED25519 host key is known for jump and you have requested strict checking.", "Host key verification failed."), own(closedEarly, wayClosed)},
			why: "on the way to the host: Host key verification failed (No ED25519 host key is known for jump and you have requested strict checking)", fail: Definite, means: HostKey, host: "jump", onWay: true},
		"a jump host that does not answer": {jumps: true, lines: [][]said{rest("ssh: connect to host jump port 22: No route to host"), own(closedEarly, wayClosed)},
			why: "on the way to the host: ssh: connect to host jump port 22: No route to host", fail: Unseen, means: NoAnswer, host: "jump", onWay: true},
		"the first of two jump hosts": {jumps: true, lines: [][]said{rest("me@a: Permission denied (publickey).", closedEarly, wayClosed), own(closedEarly, wayClosed)},
			why: "on the way to the host: me@a: Permission denied (publickey)", fail: Definite, means: JumpRefused, host: "a", onWay: true},
		"a helper that is gone before ssh's first line": {lines: [][]said{rest("sh: 1: no-such-program: not found"), own("banner exchange: Connection to UNKNOWN port 65535: Broken pipe")},
			why: "the way to the host has ended: sh: 1: no-such-program: not found", fail: Hidden, means: WayEnded},
		"a host that is gone before ssh's first line": {lines: [][]said{own("banner exchange: Connection to 192.0.2.1 port 22: Broken pipe")},
			why: "banner exchange: Connection to 192.0.2.1 port 22: Broken pipe", fail: Early, means: HungUp},
		"a jump host that is no sshd, OpenSSH 10": {jumps: true, lines: [][]said{rest("banner exchange: Connection to 192.0.2.7 port 22: invalid format"), own(closedEarly, wayClosed)},
			why: "on the way to the host: banner exchange: Connection to 192.0.2.7 port 22: invalid format", fail: Early, means: NotSSH, onWay: true},
		"a jump host that forbids it": {jumps: true, lines: [][]said{rest("channel 0: open failed: administratively prohibited: open failed", "stdio forwarding failed"), own(closedEarly, wayClosed)},
			why: "on the way to the host: channel 0: open failed: administratively prohibited: open failed", fail: Definite, means: JumpForbids, onWay: true},
		"a jump host that cannot reach the host": {jumps: true, lines: [][]said{rest("channel 0: open failed: connect failed: Connection refused", "stdio forwarding failed"), own(closedEarly, wayClosed)},
			why: "on the way to the host: channel 0: open failed: connect failed: Connection refused", fail: Unseen, means: JumpBlocked, onWay: true},
		"a jump host's banner, and an end": {jumps: true, lines: [][]said{rest(denied, "Connection closed by 192.0.2.7 port 22"), own(closedEarly, wayClosed)},
			why: "on the way to the host: Connection closed by 192.0.2.7 port 22", fail: Hidden, means: ClosedAnyTime, onWay: true},
		"a ban at a jump host, OpenSSH 10": {jumps: true, lines: [][]said{own(closedEarly, wayClosed), rest("Connection closed by 192.0.2.7 port 22")},
			why: "on the way to the host: Connection closed by 192.0.2.7 port 22", fail: Hidden, means: ClosedAnyTime, onWay: true},
		"a ban at a jump host, before": {jumps: true, lines: [][]said{rest(closedEarly, "Connection closed by 192.0.2.7 port 22"), own(closedEarly, wayClosed)},
			why: "on the way to the host: " + closedEarly, fail: Early, means: HungUp, onWay: true},
		"the first of two jump hosts, OpenSSH 10": {jumps: true, lines: [][]said{rest("me@a: Permission denied (publickey).", wayClosed), own(closedEarly, wayClosed)},
			why: "on the way to the host: me@a: Permission denied (publickey)", fail: Definite, means: JumpRefused, host: "a", onWay: true},
		"a jump host, and a host that refuses the key": {jumps: true, lines: [][]said{rest("me@jump: Permission denied (publickey)."), own(denied)}, why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"a helper that plays ssh": {lines: [][]said{rest("me@jump: Permission denied (publickey)."), own(closedEarly, wayClosed)},
			why: "the way to the host has ended: me@jump: Permission denied (publickey)", fail: Hidden, means: WayEnded},
		"an end of what worked":                     {lines: [][]said{rest("banner"), own(letIn), rest("Connection to far closed by remote host.")}, why: "Connection to far closed by remote host", fail: Unseen, means: LinkLost, host: "far"},
		"a link that is silent":                     {lines: [][]said{own(letIn, "Timeout, server far not responding.")}, why: "Timeout, server far not responding", fail: Unseen, means: LinkLost, host: "far"},
		"a far end that refuses":                    {lines: [][]said{own(letIn, "channel 2: open failed: connect failed: Connection refused")}, why: "channel 2: open failed: connect failed: Connection refused", fail: Unseen, means: FarRefused},
		"what a host says for who debugs":           {lines: [][]said{own("debug1: kex", "debug1: Remote: look", denied)}, why: "me@far: Permission denied (publickey)", fail: Unclear},
		"the same when it is known who the host is": {lines: [][]said{own(newKeys, "debug1: rekey out after 1 block", "debug1: Remote: look", denied)}, why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"with LogVerbose":                           {lines: [][]said{own("ssh.c:main():7 (pid=9): " + denied)}, why: "me@far: Permission denied (publickey)", fail: Definite, means: KeyRefused, host: "far"},
		"a session that plays a login":              {lines: [][]said{own(letIn, denied)}, why: "me@far: Permission denied (publickey)", fail: Unseen},
	} {
		t.Run(name, func(t *testing.T) {
			h, v := readAll(test.jumps, test.lines...)
			if h.Why != test.why || h.Failure != test.fail {
				t.Errorf("%q (%s)\nwant %q (%s)", h.Why, h.Failure, test.why, test.fail)
			}
			if useless := slices.Contains([]Meaning{HostKey, Revoked, Unchecked}, test.means) && !test.onWay; h.Useless != useless {
				t.Errorf("it may go on, to no use: %t, want %t", h.Useless, useless)
			}
			if v.Means != test.means || v.Host != test.host || v.OnTheWay != test.onWay {
				t.Errorf("verdict %+v, want %q of %q, on the way: %t", v, test.means, test.host, test.onWay)
			}
		})
	}
}

// A banner is said through ssh while it logs in.
func TestNoBannerDecidesAnything(t *testing.T) {
	ends := map[string][]said{
		"let in":     own(letIn),
		"near end":   own(letIn, "channel_setup_fwd_listener_tcpip: cannot listen to port: 1025"),
		"refused":    own(denied),
		"cut off":    own("Connection closed by 192.0.2.1 port 22"),
		"jump ended": own(closedEarly, wayClosed),
	}
	for end, last := range ends {
		for _, f := range forms {
			for _, jumps := range []bool{false, true} {
				if jumps && end == "jump ended" {
					continue // then it is the other ssh that says so
				}
				plain, before := decisions(jumps, last)
				banner, after := decisions(jumps, rest(example(f.line)), last)
				if banner != plain || !reflect.DeepEqual(after, before) {
					t.Errorf("%s, jumps %t: with the banner %q: %s %+v, without %s %+v", end, jumps, example(f.line), banner, after, plain, before)
				}
			}
		}
	}
}

// decisions are all that is not only shown.
func decisions(jumps bool, lines ...[]said) (all string, v Verdict) {
	r := NewReader(func() bool { return jumps })
	failure := ""
	for _, part := range lines {
		for _, s := range part {
			h := r.Read(s.line, s.log)
			if h.LetIn || h.NearEnd != "" {
				failure = "" // which counts no more
				all += fmt.Sprintf("%s %t %s %s; ", s.line, h.LetIn, h.Host, h.NearEnd)
			}
			if h.Why != "" {
				failure = h.Failure
			}
		}
	}
	return all + failure, r.Verdict()
}

func TestTheHostLetsUsInOnce(t *testing.T) {
	r := NewReader(func() bool { return false })
	if h := r.Read(letIn, false); h.LetIn {
		t.Error("a banner lets us in")
	}
	if h := r.Read(letIn, true); !h.LetIn || h.Host != "[192.0.2.1]:22" {
		t.Errorf("not let in: %+v", h)
	}
	if h := r.Read(letIn, true); h.LetIn {
		t.Error("let in twice")
	}
}

// The host's own words may have ends of lines in them, about a channel or as it
// sends us away: from then on, lines that ssh says earlier are not ssh's.
func TestOnceTheHostsOwnWordsAreInTheLogNoNearEndIsGivenUp(t *testing.T) {
	const taken = "channel_setup_fwd_listener_tcpip: cannot listen to port: 1025"
	for _, theirs := range []string{"channel 2: open failed: connect failed: look", "channel 2: open failed: administratively prohibited: look",
		"Received disconnect from 192.0.2.1 port 22:2: look"} {
		r := NewReader(func() bool { return false })
		r.Read(letIn, true)
		r.Read("bind [127.0.0.1]:1025: Address already in use", true)
		if h := r.Read(taken, true); h.NearEnd != "1025" {
			t.Errorf("ssh's own: %+v", h)
		}
		r.Read(theirs, true)
		if h := r.Read(taken, true); h.NearEnd != "" {
			t.Errorf("after %q: %+v", theirs, h)
		}
	}
}
