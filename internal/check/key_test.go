package check

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
)

const (
	good      = "is ssh-ed25519 AAAA"
	locked    = `no Load key "k": incorrect passphrase supplied to decrypt private key`
	badFormat = `no Load key "k": invalid format`
	theirs    = `no Load key "k": Permission denied`
	tooOpen   = `no Load key "k": bad permissions`
)

func TestAKeyMustBeOfUseAtBoot(t *testing.T) {
	var out strings.Builder
	const own = "       fix: ssh-keygen -t ed25519 -N '' -f DIR/k-minimail; ssh-copy-id -i DIR/k-minimail.pub far # a key of minimail's own, with --ssh-option IdentityFile=DIR/k-minimail\n"
	const off = "       fix: ssh-keygen -p -N '' -f DIR/k # takes the passphrase off\n"
	const make = "       fix: ssh-keygen -t ed25519 -N '' -f DIR/.ssh/id_ed25519\n       fix: ssh-copy-id -i DIR/.ssh/id_ed25519.pub far # then\n"
	const make1 = "       fix: ssh-keygen -t ed25519 -N '' -f DIR/m\n       fix: ssh-copy-id -i DIR/m.pub far # then\n"
	for name, c := range map[string]struct {
		keys  map[string]string
		names string
		agent string
		login login
		want  string
	}{
		"good":                   {map[string]string{"k": good}, "k", "", login{}, "OK   key       DIR/k, without a passphrase\n"},
		"good after others":      {map[string]string{"k": locked, "l": good}, "m k l", "1 key\n", login{}, "OK   key       DIR/l, without a passphrase\n"},
		"locked":                 {map[string]string{"k": locked}, "k", "", login{}, "WARN key       DIR/k has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail\n" + off + own},
		"locked, and an agent":   {map[string]string{"k": locked}, "k", "1 key\n", login{took: 1}, "WARN key       DIR/k has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail (your agent may have it now)\n" + off + own},
		"of no use":              {map[string]string{"k": badFormat}, "k", "1 key\n", login{}, "FAIL key       DIR/k is of no use: Load key \"k\": invalid format\n" + own},
		"somebody else's":        {map[string]string{"k": theirs}, "k", "", login{}, "FAIL key       DIR/k is of no use: Load key \"k\": Permission denied\n       fix: sudo chown me DIR/k\n       fix: sudo chmod 600 DIR/k\n"},
		"that others can read":   {map[string]string{"k": tooOpen}, "k", "", login{}, "FAIL key       DIR/k is of no use: Load key \"k\": bad permissions\n       fix: sudo chown me DIR/k\n       fix: sudo chmod 600 DIR/k\n"},
		"on a security key":      {map[string]string{"k": "is sk-ssh-ed25519@openssh.com AAAA"}, "k", "", login{}, "WARN key       DIR/k is on a security key: it wants to be touched, and nobody is there at boot\n" + own},
		"only an agent's":        {nil, "m n", "1 key\n2 keys\n", login{}, "WARN key       only your agent has keys (2): there is none under sudo and at boot, and logins will fail there\n" + make},
		"only one of an agent's": {nil, "m n", "1 key\n", login{}, "WARN key       only your agent has keys (1): there is none under sudo and at boot, and logins will fail there\n" + make},
		"none, but a login":      {nil, "m", "", login{took: 1}, "WARN key       none of ssh's identity files is there, yet the login works: whether it does at boot is not known\n" + make1},
		"none":                   {nil, "m n", "", login{}, "FAIL key       no key: ssh looks for DIR/m, DIR/n\n" + make},
		"a public one":           {map[string]string{"k.pub": good}, "k.pub", "", login{}, "FAIL key       no key: ssh looks for DIR/k.pub\n" + own},
		"a public one's public":  {map[string]string{"k": good, "k.pub": good}, "k.pub", "", login{}, "FAIL key       no key: ssh looks for DIR/k.pub\n       fix: minimail check --ssh-option IdentityFile=DIR/k # not the public one\n"},
	} {
		dir := fakes(t)
		for file, text := range c.keys {
			testbed.Write(t, filepath.Join(dir, file), text+"\n")
		}
		if c.agent != "" {
			testbed.Write(t, filepath.Join(dir, "agent"), c.agent)
		}
		k := checkupOf(t, &out)
		k.login = c.login
		k.files = openssh.Files{Home: dir, User: "me", Host: "far", Program: filepath.Join(dir, "ssh"), Config: openssh.Config{}}
		for _, key := range strings.Fields(c.names) {
			k.files.Config["identityfile"] = append(k.files.Config["identityfile"], filepath.Join(dir, key))
		}
		k.checkKeys(t.Context())
		saysIn(t, &out, dir, name, c.want)
		if bad := len(k.badKeys) > 0; bad != (len(c.keys) > 0 && !strings.Contains(c.want, "without") || name == "none") {
			t.Errorf("%s: the login is told of %v", name, k.badKeys)
		}
		k.files.Config = nil
		k.checkKeys(t.Context())
		says(t, &out, "of an ssh that does not say", "")
	}
}

func TestAHostIsKnownOrSomebodyHasToSayYes(t *testing.T) {
	var out strings.Builder
	const asked = "       fix: ssh -o StrictHostKeyChecking=ask -- far # compare the fingerprint with the host's before you say yes\n"
	const kept = "       fix: ssh -o StrictHostKeyChecking=ask -o UserKnownHostsFile=DIR/.ssh/known_hosts -- far # compare the fingerprint, say yes, and take UserKnownHostsFile away\n"
	const line, signer = "# Host far found: line 1\nfar ssh-ed25519 AAAA\n", "# Host far found: line 1\n@cert-authority far ssh-ed25519 AAAA\n"
	refused, worked := hears(unknown), login{took: 1}
	for _, c := range []struct {
		known, strict, command string
		keeps                  bool
		login                  login
		want                   string
	}{
		{line, "ask", "", true, worked, "OK   host key  far is in DIR/known\n"},
		{line, "no", "", true, worked, "OK   host key  far is in DIR/known\n"},
		{"", "no", "", true, worked, "OK   host key  far is accepted, though it is in no known_hosts file (StrictHostKeyChecking no)\n"},
		{"", "ask", "", false, worked, "OK   host key  far is accepted, though it is in no known_hosts file (StrictHostKeyChecking ask)\n"},
		{"", "no", "", false, worked, "WARN host key  ssh takes any host for far and forgets it (StrictHostKeyChecking no, UserKnownHostsFile /dev/null): who is in between can read all mail\n" + kept},
		{"", "ask", "", true, hears(refuses), "WARN host key  far is not in DIR/known\n" + asked},
		{"", "no", "", false, hears(refuses), "WARN host key  far is not in /dev/null\n" + kept},
		{"", "ask", "", true, refused, "FAIL host key  the key of far is not known: it is not in DIR/known\n" + asked},
		{"", "ask", "", false, refused, "FAIL host key  the key of far is not known: no file keeps it, by UserKnownHostsFile\n" + kept},
		{"", "ask", "/bin/keys", true, refused, "FAIL host key  the key of far is not known: neither KnownHostsCommand nor a file has it\n" +
			"       fix: # run it as the user: /bin/keys must print the host's key, as known_hosts has it, and end well\n" + asked},
		{line, "ask", "", true, refused, "FAIL host key  the key of far is not the one in DIR/known: another machine answers, or it got a new key\n" +
			"       fix: DIR/ssh-keygen -R far -f DIR/known # only if its administrator says so\n" + asked},
		{signer, "ask", "", true, refused, "FAIL host key  DIR/known has only who may sign the key of far, and nobody has: it has no certificate, or another machine answers\n" +
			"       fix: ssh -v -- far # shows its certificate, if there is one\n       fix: # in the sshd_config of far: HostCertificate FILE\n" + asked},
		{signer, "ask", "", true, hears(refuses), "OK   host key  far is in DIR/known\n"},
		{"", "ask", "", true, hears("ED25519 host key for far was revoked and you have requested strict checking.", unknown), ""},
	} {
		dir := fakes(t)
		known := filepath.Join(dir, "known")
		testbed.Write(t, known, c.known)
		if !c.keeps {
			known = os.DevNull
		}
		k := checkupOf(t, &out)
		k.login = c.login
		k.files = openssh.Files{Home: dir, User: "me", Host: "far", Program: filepath.Join(dir, "ssh"), Config: openssh.Config{
			"hostname": {"far"}, "port": {"22"}, "userknownhostsfile": {known}, "stricthostkeychecking": {c.strict}, "knownhostscommand": {c.command}}}
		k.checkHostKey(t.Context())
		saysIn(t, &out, dir, c.known, c.want)
		k.files.Config = nil
		k.checkHostKey(t.Context())
		says(t, &out, "of an ssh that does not say", "")
	}
}

func TestWhatIsTheUsersIsDoneAsTheUser(t *testing.T) {
	t.Parallel()
	k := &checkup{who: &user.User{Username: "me"}}
	for want, got := range map[string]string{
		"sudo -H -u me id 'a b'":                        k.byHand("id", "a b"),
		"sudo -H -u me ssh-keygen -R far -f /home/me/k": k.forget("far", "/home/me/k"),
		"sudo ssh-keygen -R far -f /etc/ssh/k":          k.forget("far", "/etc/ssh/k"),
		"id 'a b'":                                      new(checkup).byHand("id", "a b"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
