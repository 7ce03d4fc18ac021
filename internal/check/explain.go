package check

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"minimail/internal/fail"
)

// sshLine is ssh's own line in an event of the tunnel's log, or "".
func sshLine(event []byte) string {
	var e struct {
		SSH string `json:"ssh"`
	}
	_ = json.Unmarshal(event, &e) // an event without is of no interest
	return e.SSH
}

// checkLogin is about the host: does it let us in?
func (c *checkup) checkLogin() {
	l := c.login
	switch {
	case !l.tried:
		c.add("login", broken, "not tried: see above", "mend what fails above")
	case l.works():
		c.add("login", well, fmt.Sprintf("%s lets us in, in %d ms", c.Host, l.after.Milliseconds()))
	default:
		said := orElse(strings.TrimPrefix(fmt.Sprint(l.err), "no tunnel to "+c.Host+": "), "ssh says nothing")
		what, mend := c.explainLogin(said)
		if what != "" {
			said += ": " + what
		}
		c.add("login", broken, said, mend...)
	}
}

// hasPort is a host with a port behind it, which is no IPv6 address.
var hasPort = regexp.MustCompile(`^[^:]+:[0-9]+$`)

// explainLogin says what ssh's last words mean, and what mends it. The words
// are OpenSSH's (sshconnect.c, sshconnect2.c, packet.c, kex.c).
func (c *checkup) explainLogin(said string) (what string, mend []string) {
	at, port := c.config.One("hostname"), c.config.One("port")
	tryIt := "to see more: " + c.sshByHand("-v")
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	switch {
	case says("Could not resolve hostname") && hasPort.MatchString(c.Host):
		name, n, _ := strings.Cut(c.Host, ":")
		return "a port is no part of [user@]host", []string{"--host " + name + " --ssh-option Port=" + n}
	case says("Could not resolve hostname", "Name or service not known"):
		return "there is no host of that name, or no name service", []string{
			fail.Quote("getent", "hosts", at) + " (must print an address)",
			"--host [user@]NAME, or `Host " + c.Host + "` with `HostName NAME` in ssh_config"}
	case says("Host key verification failed"):
		return "see host key above", []string{c.sshByHand("-o", "StrictHostKeyChecking=ask")}
	case says("Too many authentication failures"):
		return "ssh offered too many keys before the right one", []string{
			"--ssh-option IdentitiesOnly=yes --ssh-option IdentityFile=KEY", tryIt}
	case says("Permission denied (") && len(c.badKeys) > 0:
		return "ssh had no key that it could use, see key above", append(c.badKeys[0].mend, tryIt)
	case says("Permission denied ("):
		return "the host does not accept the key", []string{c.copyKey(c.firstKey()), tryIt}
	case says("Not allowed at this time"):
		return "sshd keeps us out for a while after failures (PerSourcePenalties)", []string{
			"wait ten minutes; sshd_config over there: PerSourcePenaltyExemptList", tryIt}
	case says("invalid characters", "invalid protocol", "No SSH identification"):
		return "what answers at port " + port + " is not an sshd", []string{"another port: --ssh-option Port=N"}
	case says("kex_exchange_identification"):
		return "the connection was closed before the banner; that is what a ban looks like (fail2ban, PerSourcePenalties), or a full sshd (MaxStartups)", []string{
			"wait ten minutes, and on the host: sudo fail2ban-client status sshd; sudo journalctl -u ssh",
			"to lift a ban, on the host: sudo fail2ban-client unban YOUR-ADDRESS"}
	case says("Connection refused"):
		return "no sshd listens there, or a firewall refuses", []string{
			"on the host: sudo systemctl start ssh", "another port: --ssh-option Port=N (now " + port + ")"}
	case says("timed out", "No route to host", "Network is unreachable", "is not ready after"):
		return "no answer: the network is down, the address is wrong, or a firewall drops it", []string{
			fail.Quote("nc", "-vz", at, port) + " (must say open)"}
	}
	return "", []string{tryIt}
}

// firstKey is the identity file to have the host accept.
func (c *checkup) firstKey() string {
	for _, name := range c.config["identityfile"] {
		if path := c.file(name); isFile(path) {
			return path
		}
	}
	return c.file("~/.ssh/id_ed25519")
}

// checkFarEnds is about the mail servers behind the host.
func (c *checkup) checkFarEnds() {
	if !c.login.works() {
		return // said above
	}
	for _, e := range c.login.ends {
		name := e.Far
		switch {
		case e.err != nil:
			what, mend := c.explainFar(e)
			c.add("far end", broken, fmt.Sprintf("%s, as seen from %s: %v%s", name, c.Host, e.err, what), mend...)
		case e.SMTP && !strings.HasPrefix(e.greeting, "2"):
			c.add("far end", broken, fmt.Sprintf("%s does not take mail now: %s", name, e.greeting),
				"if that is no mail server: --protocol tcp, or --forward with another FARPORT")
		case e.greeting == "":
			c.add("far end", well, fmt.Sprintf("%s is open, and waits for us to speak (%s)", name, silence.Round(time.Second)))
		default:
			c.add("far end", well, name+" says: "+e.greeting)
		}
	}
}

// explainFar is about sshd's refusals to open a channel (channels.c, serverloop.c
// over there).
func (c *checkup) explainFar(e farEnd) (what string, mend []string) {
	words := e.err.Error()
	other := fmt.Sprintf("another FARHOST:FARPORT: --forward %d:%s:FARHOST:FARPORT", e.Port, c.nearOf(e))
	switch {
	case strings.Contains(words, "administratively prohibited"):
		return "; the host's sshd does not let us forward to there", []string{
			"sshd_config over there: AllowTcpForwarding yes (or local), PermitOpen any or " + e.Far,
			"authorized_keys over there, in front of the key: restrict,port-forwarding,permitopen=\"" + e.Far + "\",permitlisten=\"localhost:1\",command=\"/bin/false\""}
	case strings.Contains(words, "Connection refused"):
		return "; no mail server listens there", []string{
			"on the host: ss -ltn (must list the port); start the mail server", other}
	case strings.Contains(words, "timed out"), strings.Contains(words, "No route"), strings.Contains(words, "says nothing"):
		return "; a firewall may be between the two", []string{other}
	case strings.Contains(words, "without a"):
		return "; a server that turns us away, or one that does not speak SMTP", []string{
			other, "if its clients speak first: --protocol tcp"}
	}
	return "", []string{other}
}

// nearOf is the near end of our settings, in place of the spare one.
func (c *checkup) nearOf(e farEnd) string {
	for _, f := range c.Forwards {
		if f.Port == e.Port && f.Far == e.Far {
			return f.Near
		}
	}
	return "1025"
}
