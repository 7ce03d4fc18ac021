package openssh

import (
	"cmp"
	"net"
	"strings"
)

// A Meaning is what a line of ssh's is about. The zero value is unknown: such a
// line is shown, and decides nothing.
type Meaning string

const (
	// Said beside the point.
	Chatter Meaning = "chatter"
	Detail  Meaning = "detail" // explains the line that follows
	Partial Meaning = "partial-success"
	Leave   Meaning = "leave" // follows the line that has said why

	// Why a launch fails.
	BadSettings   Meaning = "bad-settings"
	NoStdout      Meaning = "no-stdout"
	NoSuchUser    Meaning = "no-such-user"
	NoSuchHost    Meaning = "no-such-host"
	Refused       Meaning = "refused"
	NotFromHere   Meaning = "not-from-here"
	NoAnswer      Meaning = "no-answer"
	HungUp        Meaning = "hung-up" // before the host has said that it speaks ssh
	Silent        Meaning = "silent"
	NotSSH        Meaning = "not-ssh"
	HostKey       Meaning = "host-key"
	NoKnownHosts  Meaning = "no-known-hosts"
	Revoked       Meaning = "host-key-revoked"
	Unchecked     Meaning = "host-key-unchecked" // whether it is revoked is not known
	WeakHostKey   Meaning = "host-key-weak"
	NothingShared Meaning = "nothing-shared"
	KeyRefused    Meaning = "key-refused"
	NotSigned     Meaning = "not-signed"   // with a key that the host accepts
	MoreWanted    Meaning = "more-wanted"  // than the key: a second factor
	OtherWanted   Meaning = "other-wanted" // than a key: a password
	TooManyKeys   Meaning = "too-many-keys"
	SentAway      Meaning = "sent-away"
	Closed        Meaning = "closed"          // in the middle of the login
	ClosedAnyTime Meaning = "closed-any-time" // by a host on the way, perhaps before it said that it speaks ssh
	TimedOut      Meaning = "timed-out"
	WayEnded      Meaning = "way-ended" // a ProxyCommand or ProxyJump has
	WaySilent     Meaning = "way-silent"
	JumpRefused   Meaning = "jump-refused" // a ProxyCommand's ssh says so, which is not verbose
	JumpForbids   Meaning = "jump-forbids" // a ProxyJump's host does
	JumpBlocked   Meaning = "jump-blocked" // it cannot reach the host

	// Said when the host lets us in, and after that.
	LetIn      Meaning = "let-in"
	NoNearEnd  Meaning = "no-near-end"
	Forbidden  Meaning = "forbidden"
	FarRefused Meaning = "far-end-refused"
	FarSocket  Meaning = "far-socket" // Forbidden or FarRefused, of a Unix socket: sshd does not tell which
	LinkLost   Meaning = "link-lost"
)

// What a failure means for the pause that follows it. Package tunnel has the
// same words, and says how long they are.
const (
	Unclear  = ""         // the host may have counted it as a failed login
	Unseen   = "unseen"   // nobody has seen us, or nobody minds
	Early    = "early"    // who answered has hung up, or is no sshd: we have done no harm
	Hidden   = "hidden"   // a ProxyCommand or ProxyJump knows, or a host that is silent
	Definite = "definite" // no waiting mends it
)

// A Case is what advice is made of: a login that has failed.
type Case struct {
	Command
	Config   Config // of it, by hand
	OnTheWay bool   // it is at a jump host
	Key      string // file of the key that the host should accept
	Far      string // of a far end, HOST:PORT
	// Quote makes a line to type of words.
	Quote func(words ...string) string
}

func (c Case) byHand(options ...string) string { return c.Quote(c.ByHand(options...)...) }

func (c Case) copyKey() string { return c.Quote(c.CopyKey(c.Key)...) }

func (c Case) hostName() string { return cmp.Or(c.Config.One("hostname"), "HOST") }

// at is where it connects to, as nc takes it.
func (c Case) at() string { return c.hostName() + " " + cmp.Or(c.Config.One("port"), "PORT") }

// set gives ssh an option, KEYWORD=VALUE.
func (c Case) set(option string) string {
	if keyword, value, _ := strings.Cut(option, "="); c.OnTheWay {
		return "# in ssh_config, below Host " + c.Host + ": " + keyword + " " + value
	}
	return "minimail check --ssh-option " + option
}

// plain is the host as ssh takes it, and the option for its port, if it is given as
// HOST:PORT or [ADDRESS], which ssh takes for a name.
func (c Case) plain() (host, option string) {
	at := strings.LastIndex(c.Host, "@") + 1
	name, port, err := net.SplitHostPort(c.Host[at:])
	if err != nil {
		name, port, err = net.SplitHostPort(c.Host[at:] + ":")
	}
	switch {
	case err != nil || strings.HasPrefix(c.Host, "ssh://") || strings.Trim(port, "0123456789") != "":
		return c.Host, ""
	case port != "":
		option = " --ssh-option Port=" + port
	}
	return c.Host[:at] + name, option
}

// meanings are what they mean for a pause and, in words, for a person; and the
// lines to type that may mend it.
var meanings = map[Meaning]struct {
	failure string
	words   string
	fixes   func(c Case) []string
}{
	"": {Unclear, "", tryIt},
	BadSettings: {Definite, "ssh does not like its settings", func(c Case) []string {
		return []string{c.byHand("-v") + " # tells the line of ssh_config, or the --ssh-option"}
	}},
	NoStdout: {Unseen, "ssh logs to /dev/stdout, which cannot be opened: a chroot without /dev or /proc", func(Case) []string {
		return []string{"sudo mount -t proc proc /proc; ls -lL /dev/stdout # there, in the chroot"}
	}},
	NoSuchUser: {Unseen, "the user that minimail runs as has been removed, or a name service (LDAP, sssd) does not answer", func(Case) []string {
		return []string{"getent passwd N # must print the user"}
	}},
	NoSuchHost: {Unseen, "there is no host of that name (which has neither port nor brackets in it), or no name service", func(c Case) []string {
		if name, port := c.plain(); name != c.Host && !c.OnTheWay {
			return []string{"minimail check --host " + name + port}
		}
		if family := c.Config.One("addressfamily"); family != "" && family != "any" {
			return []string{c.set("AddressFamily=any") + " # it is " + family}
		}
		return []string{"getent hosts " + c.hostName() + " # must print an address",
			c.set("HostName=NAME")}
	}},
	Refused: {Unseen, "no sshd listens there, or a firewall refuses", func(c Case) []string {
		return []string{"sudo systemctl start ssh # on the host", c.set("Port=N") + " # another port than " + c.Config.One("port")}
	}},
	NotFromHere: {Unseen, "ssh is to call from an address, or by an interface, that is not here: BindAddress or BindInterface", func(c Case) []string {
		return []string{"ip address # must list it, as UP", c.byHand("-G") + " # tells what is set"}
	}},
	NoAnswer: {Unseen, "the network is down, the address is wrong, or a firewall drops it", func(c Case) []string {
		return []string{"nc -vz " + c.at() + " # must say open"}
	}},
	HungUp: {Early, "the connection was closed before the host said that it speaks ssh: a ban (fail2ban, PerSourcePenalties) looks like that, and a full sshd (MaxStartups)", func(Case) []string {
		return []string{"sudo fail2ban-client status sshd # on the host; it and sshd forget after ten minutes",
			"sudo journalctl -u ssh # on the host"}
	}},
	Silent: {Hidden, "somebody answers, and does not say that it speaks ssh: a frozen sshd, a firewall, or another port's service", func(c Case) []string {
		return []string{"nc " + c.at() + " # must say SSH-2.0", "sudo systemctl restart ssh # on the host"}
	}},
	NotSSH: {Early, "what answers there is not an sshd", func(c Case) []string {
		return []string{c.set("Port=N") + " # another port than " + c.Config.One("port")}
	}},
	Revoked: {Definite, "the host's key is marked as revoked: whoever answers may be somebody else", func(Case) []string {
		return []string{"# ask the host's administrator why, and for its new key"}
	}},
	Unchecked: {Definite, "whether the host's key is revoked is not known: ssh cannot read the file of RevokedHostKeys", func(c Case) []string {
		return []string{"ls -lL " + cmp.Or(c.Config.One("revokedhostkeys"), "FILE") + " # must be there for the user, and have keys, or a KRL (ssh-keygen(1))"}
	}},
	WeakHostKey: {Definite, "the host's RSA key is shorter than RequiredRSASize allows", func(c Case) []string {
		return []string{"# in the sshd_config of " + c.Host + ": HostKey FILE, an ed25519 one", c.byHand("-G") + " # tells RequiredRSASize"}
	}},
	HostKey: {Definite, "the host is not known, or is another than before", func(c Case) []string {
		return []string{c.byHand("-o", "StrictHostKeyChecking=ask") + " # compare the fingerprint, say yes"}
	}},
	NoKnownHosts: {Definite, "ssh_config's KnownHostsCommand has failed: whether the host is known is not known", func(c Case) []string {
		return []string{"# run it as the user: " + cmp.Or(c.Config.One("knownhostscommand"), "COMMAND") + " must print the host's key, as known_hosts has it, and end well",
			c.set("KnownHostsCommand=none") + " # if the files of known hosts have it"}
	}},
	NothingShared: {Definite, "the two have no algorithm, or version of SSH, in common: a very old sshd, or one of them is told to use few", func(c Case) []string {
		return []string{c.byHand("-v") + " # shows what both offer; KexAlgorithms, Ciphers and the like, here or there, must have one in common"}
	}},
	KeyRefused: {Definite, "the host does not accept the key", func(c Case) []string {
		return []string{c.copyKey(), c.byHand("-v") + " # shows which keys are offered",
			"sudo journalctl -u ssh # on the host: why, if it has the key"}
	}},
	NotSigned: {Definite, "the host accepts the key, but an agent or a security key does not sign with it, unasked", func(c Case) []string {
		return []string{c.byHand("-v") + " # shows which key it is; minimail needs one of its own"}
	}},
	MoreWanted: {Definite, "the host wants more than the key, a second factor, and nobody is there to give it", func(c Case) []string {
		return []string{"# in the sshd_config of " + c.Host + ": Match User NAME, and below it AuthenticationMethods publickey"}
	}},
	OtherWanted: {Definite, "the host takes no keys, and nobody is there to type a password", func(c Case) []string {
		return []string{"# in the sshd_config of " + c.Host + ": PubkeyAuthentication yes"}
	}},
	TooManyKeys: {Definite, "ssh offered too many keys before the right one", func(c Case) []string {
		return []string{c.set("IdentitiesOnly=yes") + " # and IdentityFile, which names the key"}
	}},
	SentAway: {Unclear, "the host ended the login, and says why", tryIt},
	Closed:   {Unclear, "the host ended the login without a reason: an account that has expired or is locked, a login that took longer than LoginGraceTime (sshd's log tells), or a connection that was cut", tryIt},
	ClosedAnyTime: {Hidden, "the host on the way ended the connection without a reason: a ban (fail2ban, PerSourcePenalties), a full sshd (MaxStartups), an account that has expired or is locked (sshd's log tells), or a connection that was cut", func(c Case) []string {
		return []string{c.byHand("-v") + " # to see more", "sudo journalctl -u ssh # on that host"}
	}},
	TimedOut: {Unclear, "the host fell silent in the middle of the login", tryIt},
	WayEnded: {Hidden, "the ProxyCommand or ProxyJump has ended", tryIt},
	JumpRefused: {Definite, "the host on the way does not accept the key, or wants more than that: a second factor, or a password, which nobody is there to type", func(c Case) []string {
		return []string{c.copyKey(), c.byHand("-v") + " # shows which keys are offered, and what the host wants"}
	}},
	JumpForbids: {Definite, "the sshd on the way does not let us forward through it", func(c Case) []string {
		return []string{"# in the sshd_config of " + c.Host + ": AllowTcpForwarding local, and PermitOpen must allow the host behind it"}
	}},
	JumpBlocked: {Unseen, "the host on the way cannot reach the one behind it: that is down, has no sshd there, or a firewall is between", tryIt},
	WaySilent:   {Hidden, "nothing comes by the way to the host, a ProxyCommand or ProxyJump: it, or one of the hosts, is stuck", tryIt},

	LetIn:     {Unseen, "", nil},
	NoNearEnd: {Unseen, "the near end is somebody else's", nil},
	Forbidden: {Unseen, "the host's sshd does not let us forward to there", func(c Case) []string {
		return []string{"# in the host's sshd_config: AllowTcpForwarding local, and PermitOpen must allow " + c.Far,
			`# in front of the key in authorized_keys over there: restrict,port-forwarding,permitopen="` + c.Far + `",permitlisten="localhost:1",command="/bin/false"`,
			c.byHand() + " # asks for a new password, if the old one has expired: nothing is forwarded before"}
	}},
	FarRefused: {Unseen, "the host cannot reach it: no mail server listens there, a firewall is between, or it has no such name", func(Case) []string {
		return []string{"ss -ltn # on the host: must list the port; start the mail server"}
	}},
	FarSocket: {Unseen, "it is not there, is not for the user over there, or the host's sshd does not forward to sockets", func(c Case) []string {
		return []string{"ls -l '" + strings.ReplaceAll(c.Far, "'", `'\''`) + "' # on the host: must show a socket that the user may write to",
			"# in the host's sshd_config: AllowStreamLocalForwarding local",
			`# in front of the key in authorized_keys over there: restrict,port-forwarding,permitlisten="localhost:1",command="/bin/false"`}
	}},
	LinkLost: {Unseen, "the host lets us in, and ends the connection, or it was cut", func(c Case) []string {
		return []string{c.byHand("-v") + " # to see more", "sudo journalctl -u ssh # on the host: why"}
	}},
}

func tryIt(c Case) []string { return []string{c.byHand("-v") + " # to see more"} }

// Advice is what m means to a person, and lines to type that may mend it, with
// remarks behind a #.
func (m Meaning) Advice(c Case) (words string, fixes []string) {
	if (m == Forbidden || m == FarRefused) && strings.HasPrefix(c.Far, "/") {
		m = FarSocket
	}
	known := meanings[m]
	if known.fixes == nil {
		return known.words, nil
	}
	return known.words, known.fixes(c)
}
