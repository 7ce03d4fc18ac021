package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/tunnel/openssh"
)

// A key is an identity file of ssh's.
type key struct {
	path    string
	verdict verdict
	text    string
	fixes   []string
}

// checkKeys wants one key that works at boot, when no agent runs and nobody is
// there to type a passphrase.
func (c *checkup) checkKeys(ctx context.Context) {
	if c.config == nil {
		return
	}
	var bad []key
	for _, name := range c.config["identityfile"] {
		path := c.file(name)
		switch k, there := c.tryKey(ctx, path); {
		case there && k.verdict == well:
			c.add("key", well, k.text)
			return
		case there:
			bad = append(bad, k)
		}
	}
	agent := c.agentKeys(ctx)
	c.badKeys = bad
	switch {
	case len(bad) > 0:
		for _, k := range bad {
			text := k.text
			if k.verdict == doubtful && agent > 0 {
				text += " (your agent may have it now)"
			}
			c.add("key", k.verdict, text, k.fixes...)
		}
	case agent > 0:
		c.add("key", doubtful, fmt.Sprintf("only your agent has keys (%d): there is none under sudo and at boot, and logins will fail there", agent), c.newKey()...)
	case c.login.works():
		c.add("key", doubtful, "none of ssh's identity files is there, yet the login works: whether it does at boot is not known", c.newKey()...)
	default:
		c.add("key", broken, "no key: ssh looks for "+strings.Join(c.config["identityfile"], ", "), c.newKey()...)
	}
}

// newKey is how to get a key that minimail can use.
func (c *checkup) newKey() []string {
	path := c.file("~/.ssh/id_ed25519")
	if names := c.config["identityfile"]; len(names) == 1 {
		path = c.file(names[0])
	}
	return []string{
		c.byHand("ssh-keygen", "-t", "ed25519", "-N", "", "-f", path),
		c.copyKey(path) + " # then",
	}
}

// copyKey has the host accept a key.
func (c *checkup) copyKey(path string) string {
	args := []string{"ssh-copy-id", "-i", path + ".pub"}
	if c.SSHConfig != "" {
		args = append(args, "-F", c.SSHConfig)
	}
	for _, o := range c.SSHOptions {
		args = append(args, "-o", o)
	}
	return c.byHand(append(args, c.Host)...)
}

// tryKey looks whether a private key can be had without being asked.
func (c *checkup) tryKey(ctx context.Context, path string) (k key, there bool) {
	info, err := os.Stat(path)
	// A public one only tells which of the agent's keys is meant.
	if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(path, ".pub") {
		return key{}, false
	}
	f, openErr := os.Open(path)
	if openErr == nil {
		f.Close()
	}
	switch {
	case err != nil || openErr != nil:
		return key{path, broken, fmt.Sprintf("%s cannot be read by %s", path, daemon.UserName()),
			[]string{fail.Quote("sudo", "chown", daemon.UserName(), path), fail.Quote("sudo", "chmod", "600", path)}}, true
	// What belongs to somebody else is not looked at as closely (authfile.c).
	case daemon.OwnerOf(info) == os.Getuid() && info.Mode().Perm()&0o077 != 0:
		return key{path, broken, fmt.Sprintf("%s can be read by others (mode %04o): ssh does not use it", path, info.Mode().Perm()),
			[]string{fail.Quote("chmod", "600", path)}}, true
	}
	public, words, err := openssh.Ask(ctx, openssh.Env(), c.beside("ssh-keygen"), "-y", "-P", "", "-f", path)
	switch {
	case err == nil && strings.HasPrefix(public, "sk-"):
		return key{path, doubtful, path + " is on a security key: it wants to be touched, and nobody is there at boot", c.newKey()}, true
	case err == nil:
		return key{path, well, path + ", without a passphrase", nil}, true
	case strings.Contains(words, "passphrase"):
		own := path + "-minimail"
		fixes := []string{
			fail.Quote("ssh-keygen", "-p", "-N", "", "-f", path) + " # takes the passphrase off",
			c.byHand("ssh-keygen", "-t", "ed25519", "-N", "", "-f", own) + "; " + c.copyKey(own) +
				" # a key of minimail's own, with --ssh-option IdentityFile=" + own,
		}
		if strings.HasSuffix(path, "-minimail") {
			fixes = fixes[:1] // it is that already
		}
		return key{path, doubtful, path + " has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail", fixes}, true
	}
	return key{path, broken, fmt.Sprintf("%s is of no use: %s", path, orElse(lastLine(words), fmt.Sprint(err))), c.newKey()}, true
}

// agentKeys is how many keys the agent has that ssh would ask.
func (c *checkup) agentKeys(ctx context.Context) int {
	switch a := c.config.One("identityagent"); {
	case a != "" && a != "SSH_AUTH_SOCK" && !strings.HasPrefix(a, "$"):
		agent, err := net.Dial("unix", c.file(a))
		if err != nil {
			return 0
		}
		agent.Close()
		return 1 // at least it is there
	case os.Getenv("SSH_AUTH_SOCK") == "" || len(c.config["identityagent"]) > 0 && a == "":
		return 0
	}
	out, _, err := openssh.Ask(ctx, openssh.Env(), c.beside("ssh-add"), "-l")
	if err != nil {
		return 0
	}
	return strings.Count(out, "\n")
}

// checkHostKey wants the host's key to be known: nobody is there to say yes.
func (c *checkup) checkHostKey(ctx context.Context) {
	if c.config == nil {
		return
	}
	name, file := c.hostKeyName(), c.knownIn(ctx)
	files := strings.Fields(strings.Join(c.config["userknownhostsfile"], " "))
	mine := c.file("~/.ssh/known_hosts")
	if len(files) > 0 {
		mine = c.file(files[0])
	}
	learn := c.sshByHand("-o", "StrictHostKeyChecking=ask") + " # compare the fingerprint with the host's before you say yes"
	refused := c.login.said.verdict().Means == openssh.HostKey && !c.login.said.verdict().OnTheWay
	switch {
	case c.login.works() && c.config.One("userknownhostsfile") == "/dev/null" && c.asksNobody():
		c.add("host key", doubtful, "ssh takes any host for "+name+" and forgets it (StrictHostKeyChecking "+c.config.One("stricthostkeychecking")+", UserKnownHostsFile /dev/null): who is in between can read all mail",
			c.sshByHand("-o", "StrictHostKeyChecking=ask", "-o", "UserKnownHostsFile="+c.file("~/.ssh/known_hosts"))+" # compare the fingerprint, say yes, and take the two settings away")
	case c.login.works() && file != "":
		c.add("host key", well, name+" is in "+file)
	case c.login.works():
		c.add("host key", well, name+" is accepted, though it is in no known_hosts file (StrictHostKeyChecking "+c.config.One("stricthostkeychecking")+")")
	case refused && file != "":
		c.add("host key", broken, "the key of "+name+" is not the one in "+file+": another machine answers, or it got a new key",
			fail.Quote(c.beside("ssh-keygen"), "-R", name, "-f", file)+" # only if its administrator says so", learn)
	case refused:
		c.add("host key", broken, "the key of "+name+" is not known: it is not in "+mine, learn)
	case file == "":
		c.add("host key", doubtful, name+" is not in "+mine, learn)
	default:
		c.add("host key", well, name+" is in "+file)
	}
}

// hostKeyName is what the host is called in known_hosts.
func (c *checkup) hostKeyName() string {
	if a := c.config.One("hostkeyalias"); a != "" {
		return a
	}
	if p := c.config.One("port"); p != "22" {
		return "[" + c.config.One("hostname") + "]:" + p
	}
	return c.config.One("hostname")
}

// knownIn is the file that has a key of the host, or "".
func (c *checkup) knownIn(ctx context.Context) string {
	for _, k := range []string{"userknownhostsfile", "globalknownhostsfile"} {
		for _, name := range strings.Fields(strings.Join(c.config[k], " ")) {
			file := c.file(name)
			if _, err := os.Stat(file); err != nil {
				continue
			}
			if out, _, err := openssh.Ask(ctx, openssh.Env(), c.beside("ssh-keygen"), "-F", c.hostKeyName(), "-f", file); err == nil && out != "" {
				return file
			}
		}
	}
	return ""
}
