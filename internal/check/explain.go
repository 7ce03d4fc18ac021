package check

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"minimail/internal/fail"
	"minimail/tunnel/openssh"
)

// checkLogin is about the host: does it let us in?
func (c *checkup) checkLogin(ctx context.Context) {
	l := c.login
	switch {
	case !l.tried:
		c.add("login", broken, "not tried: see above", "# first mend what fails above")
	case l.works():
		c.add("login", well, fmt.Sprintf("%s lets us in, %s", c.Host, l.said.where()))
	default:
		said := strings.TrimPrefix(fmt.Sprint(l.err), "no tunnel to "+c.Host+": ")
		what, fixes := c.explainLogin(ctx, l.said.verdict())
		if what != "" {
			said += ": " + what
		}
		c.add("login", broken, said, fixes...)
	}
}

// hasPort is a host with a port behind it, which is no IPv6 address.
var hasPort = regexp.MustCompile(`^[^:]+:[0-9]+$`)

// explainLogin says what ssh's words mean, and what mends it.
func (c *checkup) explainLogin(ctx context.Context, v openssh.Verdict) (what string, fixes []string) {
	if v.OnTheWay {
		return v.Means.Advice(c.hop(ctx, v))
	}
	switch here := (openssh.Case{Name: c.Host, Host: c.config.One("hostname"), Port: c.config.One("port"),
		ByHand: c.sshByHand, CopyKey: c.copyKey(c.firstKey(c.config)), Set: func(o string) string { return "minimail check --ssh-option " + o }}); {
	case v.Means == openssh.NoSuchHost && hasPort.MatchString(c.Host):
		name, n, _ := strings.Cut(c.Host, ":")
		return "a port is no part of [user@]host", []string{fail.Quote("minimail", "check", "--host", name, "--ssh-option", "Port="+n)}
	case v.Means == openssh.KeyRefused && len(c.badKeys) > 0:
		return "ssh had no key that it could use, see key above", append(c.badKeys[0].fixes, c.sshByHand("-v")+" # to see more")
	case v.Means == openssh.KeyRefused && c.login.said.offersNoKey():
		return "ssh has offered it no key", []string{c.sshByHand("-v") + " # tells why: there is none, or PubkeyAcceptedAlgorithms leaves it out"}
	case v.Means == openssh.HostKey:
		_, fixes = v.Means.Advice(here)
		return "see host key above", fixes
	case v.Means == "":
		return "", []string{c.sshByHand("-v") + " # to see more"}
	default:
		return v.Means.Advice(here)
	}
}

// hop is the login at a jump host that has failed: advice is about it, not about
// our host.
func (c *checkup) hop(ctx context.Context, v openssh.Verdict) openssh.Case {
	words := v.Hop
	if words == nil {
		words = strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(strings.TrimPrefix(c.file(c.config.One("proxycommand")), "exec ")))
	}
	if len(words) < 2 {
		words = []string{c.SSH, orElse(v.Host, "HOST")}
	}
	last := len(words) - 1
	name := words[last]
	out, _, _ := openssh.Ask(ctx, openssh.Env(), words[0], append([]string{"-G"}, words[1:]...)...)
	there := openssh.ParseConfig(out)
	login := strings.Fields(strings.NewReplacer(" -J ", " -o ProxyJump=", " -l ", " -o User=").Replace(strings.Join(words, " ")))
	return openssh.Case{Name: name, Host: orElse(v.Host, there.One("hostname")), Port: there.One("port"),
		CopyKey: c.byHand(slices.Concat([]string{"ssh-copy-id", "-i", c.firstKey(there) + ".pub"}, login[1:])...),
		ByHand: func(options ...string) string {
			return c.byHand(slices.Concat(words[:1], options, words[1:last], []string{"--", name})...)
		},
		Set: func(o string) string {
			return "# in ssh_config, below Host " + name + ": " + strings.Replace(o, "=", " ", 1)
		}}
}

// firstKey is the identity file to have the host accept.
func (c *checkup) firstKey(config openssh.Config) string {
	for _, name := range config["identityfile"] {
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
			what, fixes := c.explainFar(e)
			c.add("far end", broken, fmt.Sprintf("%s, as seen from %s: %v%s", name, c.Host, e.err, what), fixes...)
		case e.SMTP && !strings.HasPrefix(e.greeting, "2"):
			c.add("far end", broken, fmt.Sprintf("%s does not take mail now: %s", name, e.greeting),
				"minimail check --protocol tcp # where that is no mail server; or --forward with another FARPORT")
		case e.greeting == "":
			c.add("far end", well, fmt.Sprintf("%s is open, and waits for us to speak (%s)", name, silence.Round(time.Second)))
		default:
			c.add("far end", well, name+" says: "+e.greeting)
		}
	}
}

// explainFar is about a far end that does not answer.
func (c *checkup) explainFar(e farEnd) (what string, fixes []string) {
	other := fmt.Sprintf("minimail check --forward %d:%s:FARHOST:FARPORT # another far end", e.Port, c.nearOf(e))
	_, port, _ := net.SplitHostPort(e.Far)
	switch {
	case c.loops(e):
		return "; that is minimail's own port: the host is this machine", []string{"minimail check --host HOST # one that has a mail server"}
	case e.refused == openssh.LinkLost:
		return "; the host lets us in, and ends the connection", []string{"sudo journalctl -u ssh # on the host: why",
			c.sshByHand("-v") + " # to see more"}
	case e.refused == openssh.Forbidden:
		return "; the host's sshd does not let us forward to there", []string{
			fmt.Sprintf("# in the host's sshd_config: AllowTcpForwarding local, and PermitOpen must allow %s", e.Far),
			fmt.Sprintf(`# in front of the key in authorized_keys over there: restrict,port-forwarding,permitopen="%s",permitlisten="localhost:1",command="/bin/false"`, e.Far)}
	case e.refused == openssh.FarRefused && e.err.Error() == "connect failed: Connection refused":
		return "; no mail server listens there", []string{"ss -ltn # on the host: must list the port; start the mail server", other}
	case e.SMTP && port == "465":
		return "; this port waits for TLS, which the client speaks first", []string{"minimail check --protocol tcp"}
	case e.refused == openssh.FarRefused:
		return "; the host cannot reach it", []string{other}
	case e.silent:
		return "; a firewall may be between the two, or a server whose clients speak first", []string{other, "minimail check --protocol tcp # if its clients speak first"}
	}
	return "; a server that turns us away, or one that does not speak SMTP", []string{other, "minimail check --protocol tcp # if its clients speak first"}
}

// loops reports whether the far end is a port of minimail's own.
func (c *checkup) loops(e farEnd) bool {
	host, port, _ := net.SplitHostPort(e.Far)
	n, _ := strconv.Atoi(port)
	ours := false
	for _, f := range c.Forwards {
		ours = ours || f.Port == n
	}
	if ip := net.ParseIP(host); !ours || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	return isThisMachine(c.config.One("hostname"))
}

// isThisMachine reports whether name is certainly this machine's.
func isThisMachine(name string) bool {
	if self, err := os.Hostname(); name == "localhost" || err == nil && name == self {
		return true
	}
	ip := net.ParseIP(name)
	if ip == nil {
		return false
	}
	addresses, _ := net.InterfaceAddrs()
	return ip.IsLoopback() || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
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
