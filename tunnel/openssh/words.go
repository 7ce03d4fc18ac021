package openssh

import (
	"regexp"
	"strings"
)

// Everything that is read out of what OpenSSH's client says, with the function
// of OpenSSH that says it.

// Rejects tells whether a line of ssh's says that the host turns us away in a
// way that no waiting mends.
func Rejects(line string) bool {
	for _, words := range []string{
		"Permission denied (",              // userauth, input_userauth_failure (sshconnect2.c)
		"Too many authentication failures", // ssh_packet_read_poll2 (packet.c): sshd's auth_maxtries_exceeded
		"Host key verification failed",     // ssh_kex2's verify_host_key_callback (sshconnect2.c)
	} {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}

// chatter is what ssh says when all is well, or after it has given a reason. The
// last two are said at every end at LogLevel=VERBOSE.
var chatter = regexp.MustCompile(`^(` + strings.Join([]string{
	`Authenticated to `,                  // ssh_userauth2 (sshconnect2.c)
	`Warning: Permanently added `,        // check_host_key (sshconnect.c)
	`debug\d: `,                          // do_log (log.c)
	`Could not request local forwarding`, // ssh_init_forwarding (ssh.c)
	`Transferred: `,                      // client_loop (clientloop.c)
	`Bytes per second: `,                 // client_loop (clientloop.c)
}, "|") + `)`)

// Chatter tells whether a line explains no failure.
func Chatter(line string) bool { return chatter.MatchString(line) }

// cannotListen finds the near end: channel_setup_fwd_listener_tcpip
// (channels.c), unix_listener (misc.c).
var cannotListen = regexp.MustCompile(`(?:cannot listen to port: |cannot bind to path )(.+?)(?::|$)`)

// CannotListen returns the near end, a port or a path, that line says ssh
// cannot listen on, or "".
func CannotListen(line string) string {
	if m := cannotListen.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// HungUpEarly is how a line begins when the host hangs up before its banner:
// kex_exchange_identification (kex.c).
const HungUpEarly = "kex_exchange_identification"

// letIn is what ssh says when the host has let us in: ssh_userauth2
// (sshconnect2.c), at LogLevel=VERBOSE. Before 8.7 it does not name the method.
var letIn = regexp.MustCompile(`^Authenticated to \S+ \((?:(\[\S+\]:\d+)|via proxy)\)(?: using "[^"]+")?\.$`)

// LetIn tells whether a line says that the host has let us in, and to where ssh
// is connected, as [ADDRESS]:PORT; "" if a ProxyCommand is.
func LetIn(line string) (host string, is bool) {
	m := letIn.FindStringSubmatch(line)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// A Meaning is what a line that ssh has said means for a tunnel. It converts to
// package tunnel's, which tells more of its fields.
type Meaning struct {
	LetIn   bool
	Host    string
	Chatter bool
	Rejects bool
	NearEnd string
}

// Read tells what a line means.
func Read(line string) Meaning {
	host, in := LetIn(line)
	return Meaning{LetIn: in, Host: host, Chatter: Chatter(line), Rejects: Rejects(line), NearEnd: CannotListen(line)}
}
