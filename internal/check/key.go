package check

import (
	"context"
	"fmt"
	"os"
	"strings"

	"minimail/internal/fail"
	"minimail/tunnel/openssh"
)

// checkKeys wants one key that works at boot, when no agent runs and nobody is
// there to type a passphrase.
func (c *checkup) checkKeys(ctx context.Context) {
	if c.files.Config == nil {
		return
	}
	for _, path := range c.files.Keys() {
		k, there := c.tryKey(ctx, path)
		if there && k.Verdict == well {
			c.badKeys = nil
			c.add("key", well, k.Text)
			return
		}
		if there {
			c.badKeys = append(c.badKeys, k)
		}
	}
	agent := c.files.AgentKeys(ctx)
	for _, k := range c.badKeys {
		text := k.Text
		if k.Verdict == doubtful && agent > 0 {
			text += " (your agent may have it now)"
		}
		c.add("key", k.Verdict, text, k.Fixes...)
	}
	switch {
	case len(c.badKeys) > 0:
	case agent > 0:
		c.add("key", doubtful, fmt.Sprintf("only your agent has keys (%d): there is none under sudo and at boot, and logins will fail there", agent), c.newKey(c.files.Key())...)
	case c.login.works():
		c.add("key", doubtful, "none of ssh's identity files is there, yet the login works: whether it does at boot is not known", c.newKey(c.files.Key())...)
	default:
		k := point{"key", broken, "no key: ssh looks for " + strings.Join(c.files.Config["identityfile"], ", "), c.newKey(c.files.Key())}
		c.badKeys = append(c.badKeys, k)
		c.add(k.Name, k.Verdict, k.Text, k.Fixes...)
	}
}

// newKey is how to get a key that minimail can use, instead of the one at path. No
// file that is there is replaced: ssh-keygen would do so with a public one unasked.
func (c *checkup) newKey(path string) []string {
	there := func(name string) bool { _, err := os.Lstat(name); return err == nil }
	private := strings.TrimSuffix(path, ".pub")
	if private != path && there(private) {
		return []string{fail.Quote("minimail", "check", "--ssh-option", "IdentityFile="+private) + " # not the public one"}
	}
	if !there(private) && !there(private+".pub") {
		return []string{c.byHand("ssh-keygen", "-t", "ed25519", "-N", "", "-f", private), c.copyKey(private) + " # then"}
	}
	own := private + "-minimail"
	return []string{c.byHand("ssh-keygen", "-t", "ed25519", "-N", "", "-f", own) + "; " + c.copyKey(own) +
		" # a key of minimail's own, with --ssh-option IdentityFile=" + own}
}

// copyKey has the host accept a key.
func (c *checkup) copyKey(path string) string {
	return c.byHand(openssh.Command(c.Settings.Command()).CopyKey(path)...)
}

// tryKey looks whether a private key can be had without being asked: ssh-keygen
// wants of it what ssh does (load_identity_file in ssh-keygen.c).
func (c *checkup) tryKey(ctx context.Context, path string) (k point, there bool) {
	_, err := os.Stat(path)
	unseen := os.IsPermission(err) && strings.HasPrefix(path, c.files.Home+"/") // ~/.ssh is closed: said above
	if os.IsNotExist(err) || unseen || strings.HasSuffix(path, ".pub") {
		return point{}, false // a public one only tells which of the agent's keys is meant
	}
	public, why := c.files.TryKey(ctx, path)
	switch {
	case strings.HasPrefix(public, "sk-"):
		return point{"key", doubtful, path + " is on a security key: it wants to be touched, and nobody is there at boot", c.newKey(path)}, true
	case why == "":
		return point{"key", well, path + ", without a passphrase", nil}, true
	case strings.HasSuffix(why, ": Permission denied"), strings.HasSuffix(why, ": bad permissions"): // strerror(3), sshkey_perm_ok (authfile.c)
		return point{"key", broken, path + " is of no use: " + why,
			[]string{fail.Quote("sudo", "chown", c.files.User, path), fail.Quote("sudo", "chmod", "600", path)}}, true
	case !strings.HasSuffix(why, ": incorrect passphrase supplied to decrypt private key"): // ssh_err (ssherr.c)
		return point{"key", broken, path + " is of no use: " + why, c.newKey(path)}, true
	}
	fixes := append([]string{fail.Quote("ssh-keygen", "-p", "-N", "", "-f", path) + " # takes the passphrase off"}, c.newKey(path)...)
	return point{"key", doubtful, path + " has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail", fixes}, true
}

// checkHostKey wants the host's key to be known: nobody is there to say yes.
func (c *checkup) checkHostKey(ctx context.Context) {
	if c.files.Config == nil {
		return
	}
	name, file, bySignature := c.files.KnownAs(ctx)
	mine := append(c.files.KnownHosts(), c.files.Name("~/.ssh/known_hosts"))[0]
	strict := "StrictHostKeyChecking " + c.files.One("stricthostkeychecking")
	learn := c.sshByHand("-o", "StrictHostKeyChecking=ask") + " # compare the fingerprint with the host's before you say yes"
	if !c.files.KeepsHosts() {
		learn = c.sshByHand("-o", "StrictHostKeyChecking=ask", "-o", "UserKnownHostsFile="+c.files.Name("~/.ssh/known_hosts")) +
			" # compare the fingerprint, say yes, and take UserKnownHostsFile away"
	}
	v := c.login.said.Verdict()
	switch refused, hidden := v.Means == openssh.HostKey && !v.OnTheWay, c.files.Unreadable(); {
	case c.login.works() && file == "" && !c.files.KeepsHosts() && c.files.AsksNobody():
		c.add("host key", doubtful, "ssh takes any host for "+name+" and forgets it ("+strict+", UserKnownHostsFile "+c.files.Config["userknownhostsfile"][0]+"): who is in between can read all mail", learn)
	case (v.Means == openssh.Revoked || v.Means == openssh.NoKnownHosts) && !v.OnTheWay: // the login's point says it
	case refused && bySignature:
		c.add("host key", broken, file+" has only who may sign the key of "+name+", and nobody has: it has no certificate, or another machine answers",
			c.sshByHand("-v")+" # shows its certificate, if there is one", "# in the sshd_config of "+c.Host+": HostCertificate FILE", learn)
	case refused && file != "":
		c.add("host key", broken, "the key of "+name+" is not the one in "+file+": another machine answers, or it got a new key",
			c.forget(name, file)+" # only if its administrator says so", learn)
	case refused && hidden != "":
		c.add("host key", broken, hidden+" cannot be read: whether "+name+" is known is not known",
			fail.Quote("sudo", "chown", c.files.User, hidden), fail.Quote("sudo", "chmod", "600", hidden))
	case refused && c.files.One("knownhostscommand") != "":
		_, fixes := openssh.NoKnownHosts.Advice(c.where(ctx, v))
		c.add("host key", broken, "the key of "+name+" is not known: neither KnownHostsCommand nor a file has it", fixes[0], learn)
	case refused && !c.files.KeepsHosts():
		c.add("host key", broken, "the key of "+name+" is not known: no file keeps it, by UserKnownHostsFile", learn)
	case refused:
		c.add("host key", broken, "the key of "+name+" is not known: it is not in "+mine, learn)
	case file != "":
		c.add("host key", well, name+" is in "+file)
	case c.login.works():
		c.add("host key", well, name+" is accepted, though it is in no known_hosts file ("+strict+")")
	default:
		c.add("host key", doubtful, name+" is not in "+mine, learn)
	}
}

// forget takes a host out of a file, which is then whose who types it.
func (c *checkup) forget(host, file string) string {
	words := []string{c.files.Beside("ssh-keygen"), "-R", host, "-f", file}
	if strings.HasPrefix(file, "/etc/") {
		return fail.Quote(append([]string{"sudo"}, words...)...)
	}
	return c.byHand(words...)
}
