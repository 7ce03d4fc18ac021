//go:build linux

package main

import (
	"io"
	"net"
	"slices"
	"time"

	"minimail/tunnel/openssh"
)

// A fault is something that a host or a set-up does to a login. It needs an
// OpenSSH server if it has lines for sshd.
type fault struct {
	name   string
	want   []openssh.Meaning // any of them; none: mail is served
	says   string            // the 421 has these words, too
	sshd   []string          // lines of its configuration, before ours
	lines  []string          // of ssh_config, before ours
	user   string            // that logs in; empty: me
	known  string            // what known_hosts has: empty: the host's key; none, other, revoked
	plays  func(net.Conn)    // in place of a server
	dead   bool              // nobody listens
	far    string            // far end; empty: a mail server
	taken  bool              // somebody else has the near end
	hop    bool              // also tried at a jump host
	since  int               // ten times the OpenSSH that the server must have
	quiet  bool              // check need not name it
	until  int               // ten times the last one that can
	behind bool              // only at a jump host: the host behind it is dead
	cut    bool              // the connection ends as soon as the far end is reached
	closed bool              // /etc/nologin is there
	slow   int               // seconds that ssh has to wait for it

	way   way  // to the host
	onWay bool // it is at the jump host
}

// A way is how far is reached.
type way string

const (
	directly  way = ""
	byJump    way = "jump host: "                // ProxyJump jump
	byCommand way = "jump host, ssh -W: "        // ProxyCommand ssh -W … jump, which is not verbose
	byFirst   way = "first of two jump hosts: "  // ProxyJump jump,other
	bySecond  way = "second of two jump hosts: " // ProxyJump other,jump
	behindOne way = "behind a jump host: "       // ProxyJump other; far has the fault
)

func at(n openssh.Meaning, more ...openssh.Meaning) []openssh.Meaning { return append(more, n) }

// answers writes s when a line has come, and hangs up.
func answers(s string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, s)
		time.Sleep(50 * time.Millisecond) // ssh reads before it sees the end
	}
}

func hangs(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func resets(c net.Conn) {
	_, _ = c.Read(make([]byte, 1024))
	_ = c.(*net.TCPConn).SetLinger(0)
}

// cuts speaks ssh's first line, and no more.
func cuts(c net.Conn) { answers("SSH-2.0-Gone\r\n")(c) }

func greets(first string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, first)
		for {
			if _, err := c.Read(make([]byte, 1024)); err != nil {
				return
			}
			_, _ = io.WriteString(c, "500 what?\r\n")
		}
	}
}

const passwords = "PasswordAuthentication yes"

var faults = []fault{
	{name: "none"},
	{name: "key refused", want: at(openssh.KeyRefused), lines: []string{"IdentityFile $other"}, hop: true},
	{name: "key file missing", want: at(openssh.KeyRefused), says: "No such file", lines: []string{"IdentityFile $none"}, quiet: true},
	{name: "key file open to all", want: at(openssh.KeyRefused), says: "bad permissions", lines: []string{"IdentityFile $open"}, quiet: true},
	{name: "key with a passphrase", want: at(openssh.KeyRefused), lines: []string{"IdentityFile $locked"}, quiet: true},
	{name: "key file broken", want: at(openssh.KeyRefused), says: "Load key", lines: []string{"IdentityFile $broken"}, quiet: true},
	{name: "user not there", want: at(openssh.KeyRefused, openssh.OtherWanted), user: "ghost", hop: true},
	{name: "user not allowed", want: at(openssh.KeyRefused), sshd: []string{"DenyUsers me"}},
	{name: "host key unknown", want: at(openssh.HostKey), known: "none", hop: true},
	{name: "host key changed", want: at(openssh.HostKey), known: "other", hop: true},
	{name: "host key revoked", want: at(openssh.Revoked), known: "revoked", hop: true},
	{name: "host certificate of another host", want: at(openssh.HostKey), sshd: []string{"HostCertificate /mx/hostkey-cert.pub"}, known: "authority", hop: true},
	{name: "no sshd", want: at(openssh.Refused), dead: true, hop: true},
	{name: "no such host", want: at(openssh.NoSuchHost), lines: []string{"HostName nowhere.invalid"}, hop: true},
	{name: "no route", want: at(openssh.NoAnswer), lines: []string{"HostName 192.0.2.1"}, hop: true},
	{name: "silent", want: at(openssh.Silent), plays: hangs, hop: true},
	{name: "hangs up at once", want: at(openssh.HungUp), plays: func(net.Conn) {}, hop: true},
	{name: "hangs up after ssh's line", want: at(openssh.HungUp), plays: answers(""), hop: true},
	{name: "resets", want: at(openssh.HungUp), plays: resets, hop: true},
	{name: "full (MaxStartups)", want: at(openssh.HungUp), sshd: []string{"MaxStartups 1:100:1"}, hop: true},
	{name: "penalty (PerSourcePenalties)", want: at(openssh.HungUp), sshd: []string{"PerSourcePenalties authfail:600 noauth:600 min:1"}, since: 98, hop: true},
	{name: "RefuseConnection", want: at(openssh.SentAway, openssh.HungUp, openssh.Closed), sshd: []string{"RefuseConnection yes"}, since: 100, hop: true},
	{name: "an SMTP server", want: at(openssh.NotSSH, openssh.Silent), plays: greets("220 mail ESMTP\r\n"), hop: true},
	{name: "a web server", want: at(openssh.NotSSH, openssh.HungUp), plays: answers("HTTP/1.1 400 Bad Request\r\n\r\n"), hop: true},
	{name: "a TLS server", want: at(openssh.NotSSH), plays: answers("\x15\x03\x03\x00\x02\x02\x0a\x00\x00\r\n"), hop: true},
	{name: "ssh 1 only", want: at(openssh.NothingShared), plays: answers("SSH-1.5-old\r\n"), hop: true},
	{name: "SSH-garbage", want: at(openssh.NotSSH), plays: answers("SSH-garbage\r\n"), hop: true},
	{name: "cut in the key exchange", want: at(openssh.Closed), plays: cuts, hop: true},
	{name: "no common key exchange", want: at(openssh.NothingShared), sshd: []string{"KexAlgorithms ecdh-sha2-nistp521"}, lines: []string{"KexAlgorithms curve25519-sha256"}, hop: true},
	{name: "no common host key type", want: at(openssh.NothingShared), lines: []string{"HostKeyAlgorithms ecdsa-sha2-nistp521"}, hop: true},
	{name: "no common cipher", want: at(openssh.NothingShared), sshd: []string{"Ciphers aes256-ctr"}, lines: []string{"Ciphers aes128-ctr"}, hop: true},
	{name: "password only", want: at(openssh.OtherWanted), sshd: []string{"PubkeyAuthentication no", passwords}, hop: true},
	{name: "a second factor", want: at(openssh.MoreWanted), sshd: []string{"AuthenticationMethods publickey,password", passwords}, hop: true},
	{name: "a second key wanted", want: at(openssh.MoreWanted), sshd: []string{"AuthenticationMethods publickey,publickey"}, hop: true},
	// From some version after 10.0 on keys that are only offered do not count as tries.
	{name: "too many keys", until: 105, want: at(openssh.TooManyKeys), sshd: []string{"MaxAuthTries 1"}, lines: []string{"IdentityFile $other", "IdentityFile $third"}, hop: true},
	{name: "login takes too long (LoginGraceTime)", want: at(openssh.Closed, openssh.SentAway, openssh.HungUp), // or the penalty for the login before
		sshd: []string{"LoginGraceTime 1", "AuthorizedKeysCommand /bin/sleep 9", "AuthorizedKeysCommandUser root", "AuthorizedKeysFile none"}, slow: 8, hop: true},
	{name: "account expired", want: at(openssh.Closed), says: "account has expired", sshd: []string{"UsePAM yes"}, user: "old", hop: true},
	{name: "nobody may log in (nologin)", want: at(openssh.Closed), sshd: []string{"UsePAM yes"}, closed: true, hop: true},
	{name: "account locked", want: at(openssh.KeyRefused), sshd: []string{"UsePAM no"}, user: "locked"},
	{name: "password expired", want: at(openssh.Forbidden, openssh.Closed), sshd: []string{"UsePAM yes"}, user: "stale", quiet: true},
	{name: "forwarding forbidden", want: at(openssh.Forbidden), sshd: []string{"AllowTcpForwarding no"}, hop: true},
	{name: "far end forbidden (PermitOpen)", want: at(openssh.Forbidden), sshd: []string{"PermitOpen 127.0.0.1:1"}},
	{name: "far port closed", want: at(openssh.FarRefused), far: "127.0.0.1:1"},
	{name: "far name unknown", want: at(openssh.FarRefused), far: "nowhere.invalid:25"},
	{name: "link lost after the login", want: at(openssh.LinkLost), cut: true, hop: true},
	{name: "cannot reach the host behind it", want: at(openssh.JumpBlocked), behind: true},
	{name: "near end taken", want: at(openssh.NoNearEnd), taken: true, quiet: true},
	{name: "bad line of ssh_config", want: at(openssh.BadSettings), lines: []string{"Prot 2222"}, quiet: true},
	{name: "ProxyCommand missing", want: at(openssh.WayEnded), says: "no-such-program", lines: []string{"ProxyCommand no-such-program %h"}},
	{name: "ProxyCommand ends silently", want: at(openssh.WayEnded), lines: []string{"ProxyCommand false"}},
	{name: "ProxyCommand hangs", want: at(openssh.WaySilent), lines: []string{"ProxyCommand sleep 60"}},
}

// onAWay is what the faults mean to an ssh that goes by others, or to one of
// those; quietly: it is not verbose.
func onAWay(f fault, w way) fault {
	f.name, f.way, f.onWay = string(w)+f.name, w, w != behindOne
	also := func(of []openssh.Meaning, then openssh.Meaning) {
		if slices.ContainsFunc(of, func(m openssh.Meaning) bool { return slices.Contains(f.want, m) }) {
			f.want = append(slices.Clone(f.want), then)
		}
	}
	if f.onWay && slices.Contains(f.want, openssh.Forbidden) {
		f.want = at(openssh.JumpForbids)
	}
	also([]openssh.Meaning{openssh.Silent}, openssh.WaySilent) // whoever is slow
	if w == bySecond {
		also([]openssh.Meaning{openssh.Refused}, openssh.JumpBlocked)
	}
	if w == byCommand {
		also([]openssh.Meaning{openssh.HungUp, openssh.Closed}, openssh.ClosedAnyTime)
		also([]openssh.Meaning{openssh.KeyRefused, openssh.OtherWanted, openssh.MoreWanted}, openssh.JumpRefused)
	}
	return f
}

// withHops are the faults, and those that a jump host has, or a host behind one.
func withHops() (all []fault) {
	for _, f := range faults {
		if !f.behind {
			all = append(all, f)
		}
	}
	for _, w := range []way{byJump, byCommand, byFirst, bySecond, behindOne} {
		for _, f := range faults {
			some := slices.Contains([]string{"key refused", "host key changed", "a second factor", "no sshd", "hangs up at once", "silent"}, f.name)
			switch {
			case w == behindOne && f.hop && f.known == "" && !f.dead && f.lines == nil,
				(w == byJump || w == byCommand) && (f.hop || f.behind || f.want == nil),
				(w == byFirst || w == bySecond) && some:
				all = append(all, onAWay(f, w))
			}
		}
	}
	return all
}

// needs is why s cannot play f; empty: it can.
func (f fault) needs(s *tree) string {
	switch {
	case s.kind != "sshd" && f.sshd != nil, s.kind == "tinysshd" && f.way != directly:
		return "-"
	case f.until > 0 && s.ssh.AtLeast(f.until/10, f.until%10+1):
		return "-"
	case f.since > 0 && !s.ssh.AtLeast(f.since/10, f.since%10):
		return "-"
	}
	return ""
}
