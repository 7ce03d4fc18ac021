package check

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// checkLogin is about the host: does it let us in? If not, what that means, and
// what mends it, is openssh's to say.
func (c *checkup) checkLogin(ctx context.Context) {
	l, v := c.login, c.login.said.Verdict()
	switch {
	case l.said == nil:
		c.add("login", broken, "not tried: see above", "# first mend what fails above")
		return
	case l.works():
		c.add("login", well, fmt.Sprintf("%s lets us in, %s", c.Host, l.said))
		return
	}
	text, fixes := v.Means.Advice(c.where(ctx, v))
	switch {
	case v.OnTheWay:
	case v.Means == openssh.KeyRefused && len(c.badKeys) > 0:
		text = "ssh had no key that it could use, see key above"
		fixes = c.badKeys[0].Fixes
	case v.Means == openssh.KeyRefused && l.said.Tried() == 0 && l.said.Step(openssh.KeysExchanged) > 0:
		text = "ssh has offered it no key"
		fixes = []string{c.sshByHand("-v") + " # tells why: there is none, or PreferredAuthentications, PubkeyAuthentication, PubkeyAcceptedAlgorithms or RequiredRSASize forbids it"}
	case v.Means == openssh.HostKey:
		text, fixes = "see host key above", []string{"# first mend that"}
	}
	said := strings.TrimPrefix(fmt.Sprint(l.err), "no tunnel to "+c.Host+": ")
	if text != "" {
		said += ": " + text
	}
	c.add("login", broken, said, fixes...)
}

// where is the login that v is about, ours or that at a jump host.
func (c *checkup) where(ctx context.Context, v openssh.Verdict) openssh.Case {
	it := openssh.Case{Command: openssh.Command(c.Settings.Command()), Config: c.files.Config, OnTheWay: v.OnTheWay, Quote: c.byHand}
	if v.OnTheWay {
		it.Command = v.Hop
		if it.Host == "" {
			it.Command = openssh.ParseCommand(c.files.Name(c.files.One("proxycommand")))
		}
		it.Config, _ = (&openssh.Client{Command: it.Command, Env: openssh.Env()}).Ask(ctx)
	}
	there := c.files
	there.Config = it.Config
	it.Key = there.Key()
	return it
}

// checkFarEnds is about the mail servers behind the host.
func (c *checkup) checkFarEnds() {
	if !c.login.works() {
		return // said above
	}
	for i, e := range c.login.ends {
		switch e.Near = c.Forwards[i].Near; {
		case e.err != nil:
			what, fixes := c.explainFar(e)
			c.add("far end", broken, fmt.Sprintf("%s, as seen from %s: %v; %s", e.Far, c.Host, e.err, what), fixes...)
		case e.SMTP && !strings.HasPrefix(e.greeting, "2"):
			c.add("far end", broken, fmt.Sprintf("%s does not take mail now: %s", e.Far, e.greeting),
				"minimail check --protocol tcp # where that is no mail server; or --forward with another FARPORT")
		case e.greeting == "":
			c.add("far end", well, fmt.Sprintf("%s is open, and waits for us to speak (%s)", e.Far, silence.Round(time.Second)))
		default:
			c.add("far end", well, e.Far+" says: "+e.greeting)
		}
	}
}

// explainFar is about a far end that does not answer.
func (c *checkup) explainFar(e farEnd) (what string, fixes []string) {
	const tcp = "minimail check --protocol tcp # if its clients speak first"
	other := fmt.Sprintf("minimail check --forward %d:%s:FARHOST:FARPORT # another far end", e.Port, e.Near)
	_, port, _ := net.SplitHostPort(e.Far)
	where := c.where(context.Background(), openssh.Verdict{})
	where.Far = e.Far
	switch what, fixes = e.refused.Advice(where); {
	case forward.Loops(c.Forwards, e.Far, c.files.One("hostname")):
		return "that is minimail's own port: the host is this machine", []string{"minimail check --host HOST # one that has a mail server"}
	case e.refused != "":
		return what, append(fixes, other)
	case e.SMTP && port == "465":
		return "this port waits for TLS, which the client speaks first", []string{tcp}
	case e.silent:
		return "a firewall may be between the two, or a server that is slow, or whose clients speak first",
			[]string{fmt.Sprintf("minimail check --wait %.0f # if it is slow", max(60, 2*c.Wait.Seconds())), other, tcp}
	}
	return "a server that turns us away, or one that does not speak SMTP", []string{other, tcp}
}

// checkPorts is about our ends of the forwards. None of them is touched.
func (c *checkup) checkPorts() {
	if c.blind != nil {
		c.add("ports", doubtful, c.blind.Error(), "lsof -nP -iTCP -sTCP:LISTEN # shows who listens")
		return
	}
	for _, f := range c.Forwards {
		c.checkPort("port", f.Port, f.Binds, len(f.Binds), fmt.Sprintf("minimail --forward %d:%s:%s # another port", forward.OtherPort(f.Port), f.Near, f.Far))
		if f.Network() == "unix" {
			c.checkSocket(f.Near)
		} else { // ssh is content with one family; whoever sits on the other gets none of our mail
			c.checkPort("tunnel", f.NearPort(), forward.Loopback, 1, fmt.Sprintf("minimail --forward %d:%d:%s # another port for the tunnel", f.Port, forward.OtherPort(f.NearPort()), f.Far))
		}
	}
}

// checkPort says who has a port. It is broken unless at least need of the
// addresses can be had.
func (c *checkup) checkPort(name string, port int, addresses []string, need int, other string) {
	ours, free := false, 0
	var others, hidden []peer.Listener
	var held []string
	for _, a := range addresses {
		who, unknown, itself := peer.Holders(c.listeners, a, port, c.running)
		hidden, ours = append(hidden, unknown...), ours || itself
		if len(who) == 0 {
			free++
		}
		for _, l := range who {
			others, held = append(others, l), append(held, l.String())
		}
	}
	text := strings.Join(slices.Compact(held), "; ")
	switch {
	case len(others) > 0 && others[0].Procs != nil && others[0].Procs[0].PID == 1:
		c.add(name, doubtful, text+": is that minimail.socket?", append(evict(others[0]), other)...)
	case len(others) > 0 && free < need:
		c.add(name, broken, text, append(evict(others[0]), other)...)
	case len(others) > 0:
		c.add(name, doubtful, text+"; ssh will use the other address", append(evict(others[0]), other)...)
	case len(hidden) > 0:
		c.add(name, doubtful, fmt.Sprintf("%s: minimail itself, pid %d, or somebody else, which is not to be seen", hidden[0], c.running.PID),
			fail.Quote(append([]string{"sudo", "minimail"}, c.Settings.Argv()...)...)+" # sees it")
	case ours:
		c.add(name, well, fmt.Sprintf("%d is held by minimail itself, pid %d", port, c.running.PID))
	case name == "port" && c.running.PID != 0:
		next := c.Settings
		next.Word = "restart"
		c.add(name, doubtful, fmt.Sprintf("%d is free, though minimail runs, pid %d: with other settings?", port, c.running.PID),
			fail.Quote(append([]string{"minimail"}, next.Argv()...)...)+" # a restart without options keeps the old ones")
	default:
		c.add(name, well, fmt.Sprintf("%d is free", port))
	}
}

// services are programs whose service has another name.
var services = map[string]string{"master": "postfix", "exim4": "exim4", "sendmail-mta": "sendmail", "smtpd": "opensmtpd", "dma": "dma"}

// evict is how to get the port.
func evict(l peer.Listener) []string {
	if len(l.Procs) == 0 {
		return []string{fmt.Sprintf("sudo ss -ltnp 'sport = :%d' # shows who it is; then stop it", l.At.Port())}
	}
	switch p := l.Procs[0]; {
	case p.PID == 1:
		return []string{"systemctl list-sockets # shows for which unit; any but minimail.socket is in the way"}
	case services[p.Name] != "":
		return []string{"sudo systemctl disable --now " + services[p.Name]}
	case p.Name == "minimail":
		return []string{"sudo " + daemon.StopOf(p.PID) + " # or give check the --pid-file of the one that runs"}
	default:
		return []string{fmt.Sprintf("sudo kill %d", p.PID)}
	}
}

// checkSocket: ssh replaces a Unix socket that is there, in a directory where
// it may, but nothing else.
func (c *checkup) checkSocket(path string) {
	dir := filepath.Dir(path)
	info, err := os.Lstat(path)
	notAllowed := unix.Access(dir, unix.W_OK|unix.X_OK)
	why, mend := daemon.IsShared(path, os.Getuid())
	switch {
	case err == nil && info.Mode()&os.ModeSocket == 0:
		c.add("tunnel", broken, path+" is there, and is no socket", fail.Quote("ls", "-ld", path)+" # another name for TUNNEL, or remove it")
	case notAllowed != nil:
		c.add("tunnel", broken, fmt.Sprintf("%s cannot make a socket in %s: %v", daemon.UserName(), dir, notAllowed),
			fail.Quote("sudo", "install", "-d", "-m", "700", "-o", daemon.UserName(), dir))
	case why != "":
		c.add("tunnel", doubtful, fmt.Sprintf("%s: they can keep mail from leaving by a socket of their own in place of %s", why, path), mend)
	default:
		c.add("tunnel", well, path+" can be made")
	}
}
