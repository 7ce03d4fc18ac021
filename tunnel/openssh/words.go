package openssh

import (
	"regexp"
	"strings"
	"sync"
)

// A Stage is how far ssh has got.
type Stage string

const (
	Settings    Stage = "settings"     // its options and ssh_config
	Connecting  Stage = "connecting"   // names, addresses, TCP
	Banner      Stage = "banner"       // until the host has said that it speaks ssh
	KeyExchange Stage = "key exchange" // until the host is known
	Login       Stage = "login"        // until the host lets us in
	Session     Stage = "session"
)

// A form is a line of OpenSSH's client, from its beginning to its end. What
// changes from case to case stands in it in capitals (see blanks).
type form struct {
	at    Stage
	means Meaning
	line  string
}

// forms are everything that is read out of what OpenSSH's client says, 8.0 to
// 10.5, with the function of OpenSSH that says it. The first that fits counts.
var forms = []form{
	{Settings, Chatter, "debug1: TEXT"},                                                                    // do_log (log.c)
	{Settings, Chatter, "RELEASE, TEXT"},                                                                   // main (ssh.c), if there is a -v
	{Settings, Chatter, "debug2: TEXT"},                                                                    // do_log (log.c)
	{Settings, Chatter, "debug3: TEXT"},                                                                    // do_log (log.c)
	{Settings, BadSettings, "command-line: line N: REASON"},                                                // process_config_line_depth (readconf.c), for -o
	{Settings, BadSettings, "command-line line N: REASON"},                                                 // the same, of its value
	{Settings, Detail, "FILE: line N: Bad configuration option: OPTION"},                                   // process_config_line_depth (readconf.c)
	{Settings, Detail, "FILE line N: REASON"},                                                              // the same, of its value
	{Settings, BadSettings, "FILE: terminating, N bad configuration options"},                              // read_config_file_depth (readconf.c)
	{Settings, BadSettings, "Bad owner or permissions on FILE"},                                            // read_config_file_depth (readconf.c)
	{Settings, BadSettings, "Can't open user config file FILE: REASON"},                                    // process_config_files (ssh.c)
	{Settings, NoStdout, "Couldn't open logfile FILE: REASON"},                                             // log_redirect_stderr_to (log.c)
	{Settings, NoSuchUser, "No user exists for uid N"},                                                     // main (ssh.c)
	{Settings, Detail, "vdollar_percent_expand: REASON"},                                                   // vdollar_percent_expand (misc.c), of a value's %X and ${X}
	{Settings, BadSettings, "percent_expand: REASON"},                                                      // percent_expand (misc.c)
	{Settings, BadSettings, "percent_dollar_expand: REASON"},                                               // percent_dollar_expand (misc.c)
	{Settings, BadSettings, "invalid environment variable expansion"},                                      // default_client_percent_dollar_expand (ssh.c)
	{Settings, BadSettings, "FUNCTION: No such user USER"},                                                 // tilde_expand, or tilde_expand_filename (misc.c)
	{Settings, BadSettings, "jumphost loop via HOST"},                                                      // main (ssh.c)
	{Connecting, NoSuchHost, "PROGRAM: Could not resolve hostname HOST: REASON"},                           // resolve_host (ssh.c)
	{Connecting, NoSuchHost, `PROGRAM: Could not resolve host "HOST"`},                                     // resolve_canonicalize (ssh.c)
	{Connecting, Refused, "ssh: connect to host HOST port PORT: Connection refused"},                       // ssh_connect_direct (sshconnect.c)
	{Connecting, NotFromHere, "ssh: connect to host HOST port PORT: failure"},                              // ssh_connect_direct (sshconnect.c), after one of the next three or a bind
	{Connecting, Detail, "socket: REASON"},                                                                 // ssh_create_socket (sshconnect.c)
	{Connecting, Detail, "getaddrinfo: TEXT"},                                                              // ssh_create_socket (sshconnect.c), of BindAddress
	{Connecting, Detail, "getifaddrs: TEXT"},                                                               // ssh_create_socket (sshconnect.c), of BindInterface
	{Connecting, NoAnswer, "ssh: connect to host HOST port PORT: REASON"},                                  // ssh_connect_direct (sshconnect.c)
	{Banner, NotSSH, "kex_exchange_identification: banner line contains invalid characters"},               // kex_exchange_identification (kex.c)
	{Banner, NotSSH, "kex_exchange_identification: banner line too long"},                                  // kex_exchange_identification (kex.c)
	{Banner, NotSSH, "kex_exchange_identification: No SSH version received in first N lines from server"},  // kex_exchange_identification (kex.c)
	{Banner, NotSSH, "Bad remote protocol version identification: 'TEXT'"},                                 // kex_exchange_identification (kex.c)
	{Banner, NothingShared, "Protocol major versions differ: N vs. N"},                                     // kex_exchange_identification (kex.c)
	{Banner, HungUp, "kex_exchange_identification: REASON"},                                                // kex_exchange_identification (kex.c)
	{Banner, Silent, "Connection timed out during banner exchange"},                                        // kex_exchange_identification (kex.c)
	{KeyExchange, Detail, "No KEY host key is known for HOST and you have requested strict checking."},     // check_host_key (sshconnect.c)
	{KeyExchange, Detail, "Host key for HOST has changed and you have requested strict checking."},         // check_host_key (sshconnect.c)
	{KeyExchange, Detail, "KEY host key for HOST has changed and you have requested strict checking."},     // the same, older
	{KeyExchange, Revoked, "KEY host key for HOST was revoked and you have requested strict checking."},    // check_host_key (sshconnect.c)
	{KeyExchange, Revoked, "Host key KEY TEXT revoked by file FILE"},                                       // verify_host_key (sshconnect.c), of RevokedHostKeys
	{KeyExchange, Unchecked, "Error checking host key KEY TEXT in revoked keys file FILE: REASON"},         // verify_host_key (sshconnect.c)
	{KeyExchange, Detail, "Offending KEY key in FILE:N"},                                                   // check_host_key (sshconnect.c)
	{KeyExchange, Detail, "Certificate invalid: REASON"},                                                   // sshkey_cert_check_authority (sshkey.c), for check_host_key
	{KeyExchange, Detail, "KnownHostsCommand-TEXT"},                                                        // exited_cleanly, subprocess (misc.c), for load_hostkeys_command
	{KeyExchange, NoKnownHosts, "KnownHostsCommand failed"},                                                // load_hostkeys_command (sshconnect.c)
	{KeyExchange, HostKey, "Host key verification failed."},                                                // verify_host_key_callback (sshconnect2.c)
	{KeyExchange, HostKey, "Port forwarding is disabled to avoid man-in-the-middle attacks."},              // check_host_key (sshconnect.c), with StrictHostKeyChecking=no; it logs in all the same
	{KeyExchange, WeakHostKey, "Bad server host key: REASON"},                                              // verify_host_key_callback (sshconnect2.c)
	{KeyExchange, NothingShared, "Unable to negotiate with ADDRESS port PORT: REASON"},                     // sshpkt_vfatal (packet.c)
	{Login, Detail, `Load key "FILE": REASON`},                                                             // load_identity_file (sshconnect2.c)
	{Login, Detail, `load KEY "FILE": REASON`},                                                             // check_load (ssh.c), of a public key or a certificate
	{Login, Detail, "lib_contains_symbol: REASON"},                                                         // lib_contains_symbol (misc.c), of PKCS11Provider
	{Login, Detail, "provider FILE is not a PKCS11 library"},                                               // pkcs11_add_provider (ssh-pkcs11-client.c)
	{Login, Detail, "no such identity: FILE: REASON"},                                                      // load_identity_file (sshconnect2.c)
	{Login, NotSigned, "sign_and_send_pubkey: REASON"},                                                     // sign_and_send_pubkey (sshconnect2.c)
	{Login, Partial, `Authenticated using "METHOD" with partial success.`},                                 // input_userauth_failure (sshconnect2.c)
	{Login, Partial, "Authenticated with partial success."},                                                // the same before 8.7
	{Login, KeyRefused, "USER@HOST: Permission denied (METHODS)."},                                         // userauth (sshconnect2.c)
	{Login, TooManyKeys, "Received disconnect from ADDRESS port PORT:2: Too many authentication failures"}, // ssh_packet_read_poll_seqnr (packet.c); the reason is sshd's (auth.c)
	{Login, SentAway, "Received disconnect from ADDRESS port PORT:N: REASON"},                              // ssh_packet_read_poll_seqnr (packet.c)
	{Login, LetIn, `Authenticated to HOST ([ADDRESS]:PORT) using "METHOD".`},                               // ssh_userauth2 (sshconnect2.c)
	{Login, LetIn, `Authenticated to HOST (via proxy) using "METHOD".`},                                    // ssh_userauth2 (sshconnect2.c)
	{Login, LetIn, "Authenticated to HOST ([ADDRESS]:PORT)."},                                              // main (ssh.c), before 8.7
	{Login, LetIn, "Authenticated to HOST (via proxy)."},                                                   // main (ssh.c), before 8.7
	{Login, WayEnded, "Connection closed by UNKNOWN port 65535"},                                           // sshpkt_vfatal (packet.c), of a ProxyCommand's pipe
	{Login, WayEnded, "Connection reset by UNKNOWN port 65535"},                                            // sshpkt_vfatal (packet.c)
	{Login, WaySilent, "Connection to UNKNOWN port 65535 timed out"},                                       // sshpkt_vfatal (packet.c)
	{Login, Closed, "Connection closed by ADDRESS port PORT"},                                              // sshpkt_vfatal (packet.c)
	{Login, Closed, "Connection reset by ADDRESS port PORT"},                                               // sshpkt_vfatal (packet.c)
	{Login, TimedOut, "Connection to ADDRESS port PORT timed out"},                                         // sshpkt_vfatal (packet.c)
	{Login, WayEnded, "FUNCTION: Connection to UNKNOWN port 65535: Broken pipe"},                           // sshpkt_vfatal (packet.c), for ssh_dispatch_run_fatal (dispatch.c)
	{Login, Closed, "FUNCTION: Connection to ADDRESS port PORT: Broken pipe"},                              // the same
	{Login, Leave, "Disconnected from ADDRESS port PORT"},                                                  // sshpkt_vfatal (packet.c)
	{Banner, WayEnded, "banner exchange: Connection to UNKNOWN port 65535: Broken pipe"},                   // sshpkt_vfatal (packet.c), of a ProxyCommand that is gone
	{Banner, HungUp, "banner exchange: Connection to ADDRESS port PORT: Broken pipe"},                      // sshpkt_vfatal (packet.c)
	{Banner, NotSSH, "banner exchange: Connection to ADDRESS port PORT: invalid format"},                   // sshpkt_vfatal (packet.c); since 10.0 only a verbose ssh says more
	{Login, Leave, "banner exchange: Connection to ADDRESS port PORT: REASON"},                             // sshpkt_vfatal (packet.c), for ssh_login
	{Session, Detail, "bind [ADDRESS]:PORT: REASON"},                                                       // channel_setup_fwd_listener_tcpip (channels.c)
	{Connecting, Detail, "bind ADDRESS: REASON"},                                                           // ssh_create_socket (sshconnect.c)
	{Session, NoNearEnd, "channel_setup_fwd_listener_tcpip: cannot listen to port: END"},                   // channel_setup_fwd_listener_tcpip (channels.c)
	{Session, NoNearEnd, "unix_listener: cannot bind to path END: REASON"},                                 // unix_listener (misc.c)
	{Session, NoNearEnd, "unix_listener: cannot listen on path END: REASON"},                               // unix_listener (misc.c)
	{Session, Forbidden, "channel N: open failed: administratively prohibited: REASON"},                    // channel_input_open_failure (channels.c)
	{Session, FarRefused, "channel N: open failed: REASON"},                                                // channel_input_open_failure (channels.c)
	{Session, LinkLost, "Timeout, server HOST not responding."},                                            // server_alive_check (clientloop.c)
	{Session, LinkLost, "client_loop: send disconnect: REASON"},                                            // client_loop (clientloop.c)
	{Session, LinkLost, "Connection to HOST closed by remote host."},                                       // client_process_net_input (clientloop.c)
	{Session, LinkLost, "Read from remote host HOST: REASON"},                                              // client_process_net_input (clientloop.c)
	{KeyExchange, Chatter, "Warning: Permanently added TEXT to the list of known hosts."},                  // check_host_key (sshconnect.c)
	{KeyExchange, Chatter, "Failed to add the host to the list of known hosts (FILE)."},                    // check_host_key (sshconnect.c)
	{KeyExchange, Chatter, "Could not create directory 'FILE'TEXT"},                                        // hostfile_create_user_ssh_dir (hostfile.c)
	{KeyExchange, Chatter, "** TEXT"},                                                                      // warn_nonpq_kex (sshconnect.c), since 10.1
	{KeyExchange, Chatter, "@@TEXT"},                                                                       // warn_changed_key (sshconnect.c), sshkey_perm_ok (authfile.c)
	{Session, Chatter, "stdio forwarding failed"},                                                          // ssh_stdio_confirm (ssh.c), after the channel's line
	{Session, Chatter, "Could not request local forwarding."},                                              // ssh_init_forwarding (ssh.c), after NoNearEnd
	{Session, Chatter, "Warning: remote port forwarding failed for listen TEXT"},                           // ssh_confirm_remote_forward (ssh.c)
	{Session, Chatter, "Learned new hostkey: TEXT"},                                                        // update_known_hosts (clientloop.c)
	{Session, Chatter, "Adding new key for TEXT"},                                                          // host_delete, hostfile_replace_entries (hostfile.c)
	{Session, Chatter, "Deprecating obsolete hostkey: TEXT"},                                               // update_known_hosts (clientloop.c)
	{Session, Chatter, "hostfile_replace_entries: TEXT"},                                                   // hostfile_replace_entries (hostfile.c)
	{Session, Chatter, "update_known_hosts: TEXT"},                                                         // update_known_hosts (clientloop.c)
	{Session, Chatter, "Transferred: sent TEXT, received TEXT"},                                            // client_loop (clientloop.c)
	{Session, Chatter, "Bytes per second: sent TEXT, received TEXT"},                                       // client_loop (clientloop.c)
	{Session, Chatter, "Killed by signal N."},                                                              // client_loop (clientloop.c)
}

// blanks are what stands in a form for what changes. HOST and END are told to
// whoever asks what a line means.
var blanks = map[string]string{
	"PROGRAM": `\S+`, "FUNCTION": `\w+`, "RELEASE": `OpenSSH_\S.*?`, "HOST": `(?P<host>[^\s@]+?)`, "ADDRESS": `(?P<address>\S+)`, "PORT": `(?P<port>-?\d+)`, "END": `(?P<end>.+)`, "N": `\d+`,
	"USER": `.+?`, "METHODS": `(?P<methods>[^()]*)`, "METHOD": `[^"]+`, "OPTION": `.+`, "KEY": `\S+`, "FILE": `.+`, "REASON": `.+`, "TEXT": `.*`,
}

var blank = regexp.MustCompile(`\b[A-Z]+\b`)

// patterns are the forms as regular expressions, in the same order; made when
// ssh says its first word.
var patterns = sync.OnceValue(func() []*regexp.Regexp {
	all := make([]*regexp.Regexp, len(forms))
	for i, f := range forms {
		p := blank.ReplaceAllStringFunc(regexp.QuoteMeta(f.line), func(word string) string {
			if b, ok := blanks[word]; ok {
				return b
			}
			return word
		})
		if before, ok := strings.CutSuffix(p, ": "+blanks["REASON"]); ok {
			p = before + ":(?: " + blanks["REASON"] + ")?" // which a server may leave empty
		}
		all[i] = regexp.MustCompile("^" + p + "$")
	}
	return all
})

// place is what ssh_config's LogVerbose has before a line: FILE:FUNCTION():LINE
// (pid=N), or (bin=PROGRAM, pid=N) since 9.8 (sshlogv in log.c).
var place = regexp.MustCompile(`^(debug[123]: )?[^\s:]{1,48}:(\w{1,48})\(\):\d+ \((?:bin=[^,]*, )?pid=\d+\): `)

// bare is a line without its place. The function's name, which stands before some
// forms, is then said but there.
func bare(line string) string {
	m := place.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	rest := m[1] + line[len(m[0]):]
	if named := m[2] + ": " + rest; parse(rest).means == "" && parse(named).means != "" {
		return named
	}
	return rest
}

// What tells of a ProxyJump, before anybody is connected to, and then.
const (
	implicit   = "debug1: Setting implicit ProxyCommand from ProxyJump: " // main (ssh.c)
	connecting = "debug1: Connecting to "                                 // ssh_connect_direct (sshconnect.c)
	remote     = "debug1: Remote: "                                       // ssh_packet_read_poll_seqnr (packet.c): the host's own words
	newKeys    = "debug1: SSH2_MSG_NEWKEYS received"                      // ssh_set_newkeys (kex.c, packet.c)
)

// A Step is what a login has done.
type Step string

const (
	Resolved      Step = "name"
	Connected     Step = "connect"
	KeysExchanged Step = "key exchange"
	KeyOffered    Step = "key offered"
	KeyAccepted   Step = "key accepted"
	Authenticated Step = "authentication" // a Heard is LetIn
)

// steps are said at LogLevel=DEBUG1.
var steps = []struct {
	step Step
	line *regexp.Regexp
}{
	{Resolved, regexp.MustCompile(`^` + connecting + `\S+ \[\S+\] port \d+\.$`)},                                                        // ssh_connect_direct (sshconnect.c)
	{Connected, regexp.MustCompile(`^debug1: Connection established\.$`)},                                                               // ssh_connect_direct (sshconnect.c)
	{KeysExchanged, regexp.MustCompile("^" + newKeys + "$")},                                                                            // ssh_set_newkeys (kex.c, packet.c)
	{KeyOffered, regexp.MustCompile(`^debug1: Offering public key: .+$`)},                                                               // send_pubkey_test (sshconnect2.c)
	{KeyAccepted, regexp.MustCompile(`^debug1: Server accepts key: (.+?) \S+ SHA256:\S+(?: explicit)?(?: agent)?(?: authenticator)?$`)}, // input_userauth_pk_ok (sshconnect2.c)
}

// readStep is the step that a line of ssh's log tells of, "" if of none; and the
// key's name, if it is about one.
func readStep(line string) (step Step, key string) {
	line = bare(line)
	for _, s := range steps {
		if m := s.line.FindStringSubmatch(line); m != nil {
			return s.step, strings.Join(m[1:], "")
		}
	}
	return "", ""
}
