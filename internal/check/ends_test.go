package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"minimail/forward"
	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// hears is a login in which ssh has said this, 5 ms after each other.
func hears(lines ...string) login {
	h := openssh.NewHearing(openssh.NewReader(func() bool { return false }))
	for _, line := range lines {
		time.Sleep(5 * time.Millisecond)
		h.Hear(line, true)
	}
	return login{said: h, err: errors.New("no tunnel to far: " + strings.Join(lines[max(0, len(lines)-1):], ""))}
}

const (
	resolves = "debug1: Connecting to far [192.0.2.1] port 22."
	connects = "debug1: Connection established."
	keys     = "debug1: SSH2_MSG_NEWKEYS received"
	offers   = "debug1: Offering public key: /k ED25519 SHA256:abc"
	accepted = "debug1: Server accepts key: /k ED25519 SHA256:abc"
	letIn    = `Authenticated to 192.0.2.1 ([192.0.2.1]:22) using "publickey".`
	refuses  = "me@far: Permission denied (publickey)."
	unknown  = "Host key verification failed."
)

func TestALoginThatFailsSaysWhatSSHSaysAndWhatThatMeans(t *testing.T) {
	var out strings.Builder
	for _, c := range []struct {
		login   login
		badKeys []point
		want    string
	}{
		{login{}, nil, "not tried: see above\n       fix: # first mend what fails above\n"},
		{hears(refuses), nil, refuses + ": the host does not accept the key\n       fix: ssh-copy-id -i /home/me/.ssh/id_ed25519.pub far\n" +
			"       fix: ssh -v -- far # shows which keys are offered\n       fix: sudo journalctl -u ssh # on the host: why, if it has the key\n"},
		{hears(keys, offers, refuses), nil, refuses + ": the host does not accept the key\n       fix: ssh-copy-id -i /home/me/.ssh/id_ed25519.pub far\n" +
			"       fix: ssh -v -- far # shows which keys are offered\n       fix: sudo journalctl -u ssh # on the host: why, if it has the key\n"},
		{hears(keys, refuses), nil, refuses + ": ssh has offered it no key\n" +
			"       fix: ssh -v -- far # tells why: there is none, or PreferredAuthentications, PubkeyAuthentication, PubkeyAcceptedAlgorithms or RequiredRSASize forbids it\n"},
		{hears(keys, refuses), []point{{"key", broken, "of no use", []string{"mend the key"}}, {"key", broken, "another", nil}},
			refuses + ": ssh had no key that it could use, see key above\n       fix: mend the key\n"},
		{hears(unknown), []point{{"key", broken, "of no use", nil}}, unknown + ": see host key above\n       fix: # first mend that\n"},
		{hears("gibberish"), nil, "gibberish\n       fix: ssh -v -- far # to see more\n"},
	} {
		k := checkupOf(t, &out)
		k.login, k.badKeys, k.files.Home = c.login, c.badKeys, "/home/me"
		k.checkLogin(t.Context())
		says(t, &out, "login", "FAIL login     "+c.want)
	}
}

func TestALoginThatWorksTellsWhereItsTimeWasSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		silent := hears() // an ssh that tells nothing
		silent.took = 1
		for want, l := range map[string]login{
			"in 0 ms": silent,
			"in 5 ms": hears(letIn),
			"in 20 ms (name 5 ms, connect 5 ms, key exchange 5 ms, authentication 5 ms)":                                                                        hears(resolves, connects, keys, letIn),
			"in 20 ms (key exchange 5 ms, authentication 15 ms), by /k":                                                                                         hears(keys, offers, accepted, letIn),
			"in 10 ms (key exchange 5 ms, authentication 5 ms)":                                                                                                 hears(keys, letIn, keys, letIn),
			"in 30 ms (key exchange 5 ms, authentication 25 ms), by /k; keys tried before it, a round trip each: 2, which IdentitiesOnly and IdentityFile save": hears(keys, offers, offers, offers, accepted, letIn),
			"in 15 ms (key exchange 5 ms, authentication 10 ms)":                                                                                                hears(keys, offers, letIn), // by an agent's, or none
		} {
			k := checkup{out: form{w: &out, signs: plainSigns}, login: l}
			k.Host = "far"
			k.checkLogin(t.Context())
			says(t, &out, "login", "OK   login     far lets us in, "+want+"\n")
		}
		l := hears()
		l.said.Hear(keys, false) // somebody else's words on stderr
		if l.works() || l.said.Step(openssh.KeysExchanged) != 0 || (login{}).works() {
			t.Error("what others say counts as ssh's")
		}
		select {
		case <-l.said.More:
		default:
			t.Error("nobody is told of a line")
		}
		if l.said.Hear(letIn, true); l.said.Step(openssh.Authenticated) != time.Microsecond {
			t.Errorf("a step that took no time is not to be told from none: %v", l.said.Step(openssh.Authenticated))
		}
	})
}

func TestAFarEndSaysWhatItIsOrWhyThereIsNone(t *testing.T) {
	var out strings.Builder
	no := errors.New("it ended the connection without a word")
	const other, tcp = "       fix: minimail check --forward 25:1025:FARHOST:FARPORT # another far end\n", "       fix: minimail check --protocol tcp # if its clients speak first\n"
	for far, c := range map[string]struct {
		end  farEnd
		want string
	}{
		"a:25": {farEnd{greeting: "220 a"}, "OK   far end   a:25 says: 220 a\n"},
		"b:25": {farEnd{greeting: "554 no"}, "FAIL far end   b:25 does not take mail now: 554 no\n" +
			"       fix: minimail check --protocol tcp # where that is no mail server; or --forward with another FARPORT\n"},
		"c:25":  {farEnd{err: no}, "a server that turns us away, or one that does not speak SMTP\n" + other + tcp},
		"d:25":  {farEnd{err: no, silent: true}, "a firewall may be between the two, or a server that is slow, or whose clients speak first\n       fix: minimail check --wait 60 # if it is slow\n" + other + tcp},
		"e:465": {farEnd{err: no}, "this port waits for TLS, which the client speaks first\n" + tcp},
		"f:25":  {farEnd{err: no, refused: openssh.FarRefused}, "the host cannot reach it: no mail server listens there, a firewall is between, or it has no such name\n       fix: ss -ltn # on the host: must list the port; start the mail server\n" + other},
		"h:25": {farEnd{err: no, refused: openssh.Forbidden}, "the host's sshd does not let us forward to there\n       fix: # in the host's sshd_config: AllowTcpForwarding local, and PermitOpen must allow h:25\n" +
			"       fix: # in front of the key in authorized_keys over there: restrict,port-forwarding,permitopen=\"h:25\",permitlisten=\"localhost:1\",command=\"/bin/false\"\n" +
			"       fix: ssh -- far # asks for a new password, if the old one has expired: nothing is forwarded before\n" + other},
		"127.0.0.1:25": {farEnd{err: no, refused: openssh.FarRefused}, "that is minimail's own port: the host is this machine\n       fix: minimail check --host HOST # one that has a mail server\n"},
	} {
		k := checkupOf(t, &out, "--forward", "25:1025:"+far)
		k.files.Config = openssh.Config{"hostname": {"127.0.0.1"}}
		c.end.Spec = k.Forwards[0]
		c.end.Near, c.end.SMTP = "/tmp/spare", true
		k.login = login{took: 1, ends: []farEnd{c.end}}
		k.checkFarEnds()
		if c.end.err != nil {
			c.want = "FAIL far end   " + far + ", as seen from far: it ended the connection without a word; " + c.want
		}
		if got := strings.ReplaceAll(out.String(), " --forward=25:1025:"+far, ""); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", far, got, c.want)
		}
		out.Reset()
		k.login.took = 0
		k.checkFarEnds()
		says(t, &out, "without a login", "")
	}
	k := checkupOf(t, &out, "--protocol", "tcp")
	for greeting, want := range map[string]string{"": "is open, and waits for us to speak (2s)", "554 no": "says: 554 no"} {
		k.login = login{took: 1, ends: []farEnd{{Spec: k.Forwards[0], greeting: greeting}}}
		k.checkFarEnds()
		says(t, &out, "any protocol", "OK   far end   localhost:25 "+want+"\n")
	}
	// As if it were for mail, whose port it is not.
	k.login.ends[0] = farEnd{Spec: k.Forwards[0], err: no}
	k.login.ends[0].Far = "g:465"
	if what, _ := k.explainFar(k.login.ends[0]); what != "a server that turns us away, or one that does not speak SMTP" {
		t.Errorf("of any protocol: %s", what)
	}
}

func TestAGreetingIsOneLineAndIsAnswered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		speaks string
		smtp   bool
		stays  bool
		want   string
		err    string
		quit   string
	}{
		{"220 far.test \r\n250 more\r\n", true, true, "220 far.test", "", "QUIT\r\n"},
		{"220 far.test", true, false, "220 far.test", `its greeting has no end: "220 far.test"`, ""},
		{"a\r\n", true, true, "a", "", "QUIT\r\n"},
		{"220-far\r\n421 later\r\n", true, true, "421 later", "", "QUIT\r\n"},
		{"hello\r\n", false, true, "hello", "", ""},
		{"", true, false, "", "it ended the connection without a word", ""},
		{"", false, false, "", "it ended the connection without a word", ""},
		{"", false, true, "", "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			heard := make(chan string, 1)
			go func() {
				_, _ = theirs.Write([]byte(c.speaks))
				if !c.stays {
					theirs.Close()
				}
				b := make([]byte, 100)
				n, _ := theirs.Read(b)
				heard <- string(b[:n])
				_, _ = theirs.Write([]byte("221 bye\r\n"))
			}()
			began := time.Now()
			got, err := greeting(ours, c.smtp, time.Minute)
			ours.Close()
			if quit := <-heard; got != c.want || c.err != "" && fmt.Sprint(err) != c.err || c.err == "" && err != nil || quit != c.quit {
				t.Errorf("%+v: %q, %v, and it hears %q", c, got, err, quit)
			}
			if waited := time.Since(began); waited != map[bool]time.Duration{true: silence}[c.speaks == "" && c.stays] {
				t.Errorf("%+v: it takes %s", c, waited)
			}
		})
	}
}

func TestAPortSaysWhoHasIt(t *testing.T) {
	var out strings.Builder
	const restart = "       fix: minimail --host=far --settings=/dev/null restart # a restart without options keeps the old ones\n"
	exim := peer.Process{PID: 77, Name: "exim4"}
	both := []string{"127.0.0.1", "::1"}
	port := testbed.FreePort(t)
	at := func(format string) string { return fmt.Sprintf(format, port) }
	taken := func(address string, uid int, procs ...peer.Process) peer.Listener {
		l := listenerAt(net.JoinHostPort(address, fmt.Sprint(port)))
		l.UID, l.Procs = uid, procs
		return l
	}
	four, six := taken("127.0.0.1", 0, exim), taken("::1", 0, exim)
	const evicted, other = "       fix: sudo systemctl disable --now exim4\n", "       fix: another\n"
	for _, c := range []struct {
		name      string
		need      int
		running   peer.Minimail
		listeners []peer.Listener
		want      string
	}{
		{"port", 2, peer.Minimail{}, nil, at("OK   port      %d is free\n")},
		{"port", 2, peer.Minimail{PID: 9}, nil, at("WARN port      %d is free, though minimail runs, pid 9: with other settings?\n") + restart},
		{"tunnel", 1, peer.Minimail{PID: 9}, nil, at("OK   tunnel    %d is free\n")},
		{"port", 2, peer.Minimail{PID: 9}, []peer.Listener{four}, at("FAIL port      127.0.0.1:%d is held by exim4, pid 77, uid 0 (root)\n") + evicted + other},
		{"port", 2, peer.Minimail{PID: 9}, []peer.Listener{four, four}, at("FAIL port      127.0.0.1:%d is held by exim4, pid 77, uid 0 (root)\n") + evicted + other},
		{"tunnel", 1, peer.Minimail{PID: 9}, []peer.Listener{four}, at("WARN tunnel    127.0.0.1:%d is held by exim4, pid 77, uid 0 (root); ssh will use the other address\n") + evicted + other},
		{"tunnel", 1, peer.Minimail{PID: 9}, []peer.Listener{four, six},
			fmt.Sprintf("FAIL tunnel    127.0.0.1:%d is held by exim4, pid 77, uid 0 (root); [::1]:%d is held by exim4, pid 77, uid 0 (root)\n", port, port) + evicted + other},
		{"port", 2, peer.Minimail{PID: 77}, []peer.Listener{four, six}, at("OK   port      %d is held by minimail itself, pid 77\n")},
		{"tunnel", 1, peer.Minimail{PID: 77}, []peer.Listener{four}, at("OK   tunnel    %d is held by minimail itself, pid 77\n")},
		{"port", 2, peer.Minimail{PID: 1 << 30}, []peer.Listener{taken("127.0.0.1", 0)},
			at("WARN port      127.0.0.1:%d is held by uid 0 (root): minimail itself, pid 1073741824, or somebody else, which is not to be seen\n") +
				"       fix: sudo minimail --host=far --settings=/dev/null check # sees it\n"},
		{"port", 2, peer.Minimail{PID: 9}, []peer.Listener{taken("::1", 0, peer.Process{PID: 1, Name: "init"})},
			at("WARN port      [::1]:%d is held by init, pid 1, uid 0 (root): is that minimail.socket?\n") +
				"       fix: systemctl list-sockets # shows for which unit; any but minimail.socket is in the way\n" + other},
	} {
		k := checkupOf(t, &out)
		k.running, k.listeners = c.running, c.listeners
		k.checkPort(c.name, port, both, c.need, "another")
		says(t, &out, fmt.Sprintf("%+v", c.listeners), c.want)
	}
}

func TestWhenSSHHasEndedNoFarEndIsAsked(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancelCause(t.Context())
	why := errors.New("ssh has ended")
	end(why)
	f := forward.Spec{Port: 25, Far: "a:25"}
	if got := new(login).talk(ctx, nil, f, time.Hour); got.err != why || got.Far != f.Far || got.silent {
		t.Errorf("%+v", got)
	}
}
