package system

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

func TestCheckNamesAMissingKey(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	if err := os.Rename(h.Path("key"), h.Path("away")); err != nil {
		t.Fatal(err)
	}
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "key", "no key: ssh looks for "+q(h.Path("key")), q("sudo -H -u "+testbed.RunAs+" ssh-keygen -t ed25519 -N '' -f "+h.Path("key")))
	c.says(t, "FAIL", "login", `Permission denied \(publickey\).*: ssh had no key that it could use, see key above`, "ssh-keygen ")
	if err := os.Rename(h.Path("away"), h.Path("key")); err != nil {
		t.Fatal(err)
	}
	checkOf(t, m).isWell(t)
}

func TestCheckNamesAKeyWithAPassphrase(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	testbed.Run(t, "ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", h.Path("key"))
	testbed.GiveTo(t, h.Path("key"), testbed.RunAs)
	c := checkOf(t, m)
	c.exits(t, 2)
	mend := "ssh-keygen -p -N '' -f " + h.Path("key")
	c.says(t, "WARN", "key", q(h.Path("key"))+" has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail$", q(mend))
	c.says(t, "FAIL", "login", `Permission denied.*: ssh had no key that it could use, see key above`, q(mend))
	testbed.Run(t, "sh", "-c", mend+" -q -P secret")
	testbed.GiveTo(t, h.Path("key"), testbed.RunAs)
	checkOf(t, m).isWell(t)
}

// TestCheckWaitsAtNoFIFOOfSSHs: it is named, and nothing is tried with it.
func TestCheckWaitsAtNoFIFOOfSSHs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	fifo := filepath.Join(testbed.PublicDir(t), "fifo")
	testbed.Run(t, "mkfifo", "-m", "666", fifo)
	for _, option := range []string{"UserKnownHostsFile", "GlobalKnownHostsFile", "IdentityFile"} {
		c := checkOf(t, m, "--ssh-option", option+"="+fifo)
		c.exits(t, 2)
		c.says(t, "FAIL", "ssh -G", "ssh would wait at "+q(fifo)+", which is no regular file", "ls -l "+q(fifo))
		c.says(t, "FAIL", "login", "not tried: see above", "")
	}
}

// TestCheckWarnsOfAKeyThatOnlyAnAgentHas: it works now, and will not at boot.
func TestCheckWarnsOfAKeyThatOnlyAnAgentHas(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	dir := testbed.PublicDir(t)
	testbed.GiveTo(t, dir, testbed.RunAs)
	socket := filepath.Join(dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	asNobody(t, "/")(agent)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	testbed.Eventually(t, "the agent listens", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	add := exec.Command("ssh-add", "-q", h.Path("key"))
	asNobody(t, "/", "SSH_AUTH_SOCK="+socket)(add)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	withAgent := func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket) }

	testbed.Run(t, "ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", h.Path("key"))
	testbed.GiveTo(t, h.Path("key"), testbed.RunAs)
	c := runCheck(t, withAgent, m.Cmd.Args[1:]...)
	c.exits(t, 1)
	c.says(t, "WARN", "key", "has a passphrase: under sudo and at boot .* logins will fail .your agent may have it now", "ssh-keygen -p")
	c.says(t, "OK", "login", "", "")

	if err := os.Remove(h.Path("key")); err != nil {
		t.Fatal(err)
	}
	c = runCheck(t, withAgent, m.Cmd.Args[1:]...)
	c.exits(t, 1)
	c.says(t, "WARN", "key", `only your agent has keys \(1\): there is none under sudo and at boot`, "ssh-keygen -t ed25519")
	c.says(t, "OK", "login", "", "")
}

// TestNoKeyThatIsThereIsToBeReplaced: it may be of use to another program.
func TestNoKeyThatIsThereIsToBeReplaced(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	key := h.Path("key")
	testbed.Write(t, m.Config, strings.Replace(testbed.Read(t, m.Config), "IdentityFile "+key, "IdentityFile "+key+".pub", 1))
	c := checkOf(t, m)
	c.says(t, "FAIL", "key", "no key: ssh looks for "+q(key+".pub"), q("--ssh-option IdentityFile="+key+" "))
	h.Configure(t)
	testbed.Write(t, key, "PuTTY-User-Key-File-3: ssh-ed25519\n")
	c = checkOf(t, m)
	c.says(t, "FAIL", "key", q(key)+" is of no use", q("-f "+key+"-minimail; "))
	testbed.Run(t, "rm", key)
	c = checkOf(t, m)
	c.says(t, "FAIL", "key", "no key", q("-f "+key+"-minimail; ")) // ssh-keygen replaces key.pub, too
}

func TestCheckNamesAKeyThatSSHWillNotUse(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for _, k := range []struct{ spoil, text, mend string }{
		{"chmod 644 " + h.Path("key"), "is of no use: .*: bad permissions", "sudo chmod 600 " + h.Path("key")},
		{"chown 0 " + h.Path("key"), "is of no use: .*: Permission denied", "sudo chown " + testbed.RunAs + " " + h.Path("key")},
	} {
		testbed.Run(t, "sh", "-c", k.spoil)
		c := checkOf(t, m)
		c.exits(t, 2)
		c.says(t, "FAIL", "key", k.text, q(k.mend))
		testbed.Run(t, "sh", "-c", strings.TrimPrefix(k.mend, "sudo "))
		checkOf(t, m).isWell(t)
	}
}

// TestCheckNamesAWrongHost: the name is one that no name server is asked for.
func TestCheckNamesAWrongHost(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	name := strings.Repeat("x", 70) + ".invalid"
	good := testbed.Read(t, m.Config)
	testbed.Write(t, m.Config, strings.Replace(good, "HostName 127.0.0.1", "HostName "+name, 1))
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "Could not resolve hostname "+name+".*: there is no host of that name", "getent hosts "+name)
	testbed.Write(t, m.Config, good)
	checkOf(t, m).isWell(t)

	h.Stop()
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "Connection refused: no sshd listens there", "--ssh-option Port=N --host=far --forward=.* # another port than "+strconv.Itoa(h.Port))
	h.Start(t)
	checkOf(t, m).isWell(t)
}

// TestCheckNamesAKnownHostsCommandThatFails: saying yes by hand would not help.
func TestCheckNamesAKnownHostsCommandThatFails(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	testbed.Write(t, h.Path("known_hosts"), "")
	h.Configure(t, "KnownHostsCommand /bin/false")
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "KnownHostsCommand failed.*whether the host is known is not known", q("/bin/false must print the host's key"))
	if strings.Contains(c.out, "StrictHostKeyChecking=ask") {
		t.Errorf("the advice cannot help:\n%s", c.out)
	}
	h.Configure(t, "KnownHostsCommand /bin/true")
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", "neither KnownHostsCommand nor a file has it", q("/bin/true must print the host's key"))
}

func TestCheckNamesAHostKeyThatIsNotKnown(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	name := fmt.Sprintf("[127.0.0.1]:%d", h.Port)
	testbed.Write(t, h.Path("known_hosts"), "")
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q("the key of "+name+" is not known: it is not in "+h.Path("known_hosts")),
		q("sudo -H -u "+testbed.RunAs+" ssh -o StrictHostKeyChecking=ask -F "+m.Config+" -- far"))
	h.Trust(t, "otherkey.pub")
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q("the key of "+name+" is not the one in "+h.Path("known_hosts")),
		"sudo -H -u "+testbed.RunAs+` \S*`+q("ssh-keygen -R '"+name+"' -f "+h.Path("known_hosts"))) // which makes the file root's, if root does it
	testbed.Write(t, h.Path("known_hosts"), "@cert-authority * "+testbed.Read(t, h.Path("otherkey.pub")))
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q(h.Path("known_hosts")+" has only who may sign the key of "+name), "HostCertificate")
	h.Trust(t, "hostkey.pub")
	checkOf(t, m).isWell(t)
	known := testbed.Read(t, h.Path("known_hosts"))
	testbed.Write(t, h.Path("known_hosts"), known+"@revoked "+known)
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "the host's key is marked as revoked", "ask the host's administrator why")
	testbed.Write(t, h.Path("known_hosts"), known)
	if err := os.Chmod(h.Path("known_hosts"), 0o600); err != nil { // it is root's
		t.Fatal(err)
	}
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q(h.Path("known_hosts")+" cannot be read"), q("sudo chown "+testbed.RunAs+" "+h.Path("known_hosts")))
}

func TestCheckNamesAUserWhoIsMissing(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	c := checkOf(t, m, "--user", "no-such-user")
	c.exits(t, 2)
	c.says(t, "FAIL", "user", `there is no user "no-such-user"`, "getent passwd")
	c = checkOf(t, m, "--user", "")
	c.exits(t, 2)
	c.says(t, "FAIL", "user", "root has to become somebody else", "SUDO_USER=NAME .* /etc/default/minimail")
	if h.Log.Has("Accepted") {
		t.Error("somebody has logged in")
	}
	checkOf(t, m).isWell(t)
}

// TestCheckNamesAHomeThatIsTooOpen: it is the one in which ssh looks, not $HOME,
// which may still be root's.
func TestCheckNamesAHomeThatIsTooOpen(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	home, roots := testbed.PublicDir(t), t.TempDir()
	ssh := filepath.Join(home, ".ssh")
	for _, dir := range []string{ssh, filepath.Join(roots, ".ssh")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(roots, 0o700); err != nil {
		t.Fatal(err)
	}
	const uid, key = 54321, "id_ed25519"
	testbed.AddAccount(t, "homely", uid, uid, home)
	testbed.Write(t, filepath.Join(ssh, key), testbed.Read(t, h.Path("key")))
	for _, name := range []string{home, ssh, filepath.Join(ssh, key)} {
		if err := os.Chown(name, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(ssh, key), 0o600); err != nil {
		t.Fatal(err)
	}
	args := m.Cmd.Args[1:]
	run := func() checked {
		t.Helper()
		return runCheck(t, func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			cmd.Env = append(os.Environ(), "HOME="+roots)
		}, append(slices.Clone(args), "--user", "homely", "--log-file", filepath.Join(home, "log"), "--pid-file", filepath.Join(home, "pid"), "--ssh-option", "IdentityFile=~/.ssh/"+key)...)
	}
	c := run()
	c.isWell(t)
	c.says(t, "OK", "user", "homely, uid 54321, home "+q(home), "")
	c.says(t, "OK", "key", q(filepath.Join(ssh, key)), "")
	if err := os.Chmod(ssh, 0o770); err != nil {
		t.Fatal(err)
	}
	c = run()
	c.exits(t, 1)
	c.says(t, "WARN", "~/.ssh", q("others can change "+ssh), q("chmod go-w "+ssh))
	testbed.Run(t, "sh", "-c", "chmod go-w "+ssh)
	run().isWell(t)

	testbed.Run(t, "sh", "-c", "chown 0:0 "+ssh+"; chmod 700 "+ssh)
	c = run()
	mend := "chown homely " + ssh + " && sudo chmod u+rwX " + ssh
	c.says(t, "WARN", "~/.ssh", q("ssh cannot look into "+ssh+", and does without"), q("sudo "+mend))
	if strings.Contains(c.out, "chown homely "+filepath.Join(ssh, key)) {
		t.Errorf("it is not the key that is closed:\n%s", c.out)
	}
	testbed.Run(t, "sh", "-c", strings.ReplaceAll(mend, "sudo ", ""))
	run().isWell(t)

	config := filepath.Join(ssh, "config") // which ssh does without, and says nothing
	testbed.Write(t, config, "Host far\n")
	if err := os.Chmod(config, 0o600); err != nil { // it is root's
		t.Fatal(err)
	}
	run().isWell(t) // it has another one
	i := slices.Index(args, "--ssh-config")
	args = slices.Delete(slices.Clone(args), i, i+2)
	c = run()
	c.says(t, "WARN", "~/.ssh", q("ssh cannot look into "+config), q("sudo chown homely "+config))
}

// TestCheckExplainsABan: that is how one looks from here.
func TestCheckExplainsABan(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	h.Stop()
	knocks := make(chan bool, 100)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", h.Port))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			knocks <- true
			c.Close()
		}
	}()
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", `kex_exchange_identification: .*: the connection was closed before the host said that it speaks ssh: .*fail2ban, PerSourcePenalties.*MaxStartups`, "fail2ban-client")
	if n := len(knocks); n != 1 {
		t.Errorf("%d knocks at a host that may ban us for them", n)
	}
	l.Close()
	h.Start(t)
	checkOf(t, m).isWell(t)
}

func TestCheckNamesAnSSHThatIsMissingOrDoesNotLikeItsSettings(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	c := checkOf(t, m, "--ssh", "no-such-ssh")
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh", "cannot run ssh: .*no-such-ssh", "sudo apt install openssh-client")
	c.says(t, "FAIL", "login", "not tried", "mend what fails above")

	c = checkOf(t, m, "--ssh-option", "NoSuchOption=yes")
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "(?i)nosuchoption", "--ssh-option")
	c.says(t, "FAIL", "login", "not tried", "mend what fails above")

	// A stand-in, as a test has no say in where ssh finds ~/.ssh/config.
	fake := testbed.Script(t, "[ \"$1\" = -V ] && { echo OpenSSH_9.2p1 >&2; exit; }\necho 'Bad owner or permissions on /home/me/.ssh/config' >&2\nexit 255\n")
	c = checkOf(t, m, "--ssh", fake)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "Bad owner or permissions on /home/me/.ssh/config", "sudo chown "+testbed.RunAs+" /home/me/.ssh/config && sudo chmod 600 /home/me/.ssh/config")

	testbed.Write(t, h.Path("mine"), "")
	if err := os.Chmod(h.Path("mine"), 0o600); err != nil { // it is root's
		t.Fatal(err)
	}
	h.Configure(t, "Include "+h.Path("mine"))
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "Can't open user config file "+q(h.Path("mine"))+": Permission denied", "sudo chown "+testbed.RunAs+" "+q(h.Path("mine"))+" && sudo chmod 600")
	h.Configure(t)

	// It is not there any more for the second question.
	testbed.Write(t, fake, "#!/bin/sh\nrm \"$0\"; echo OpenSSH_9.2p1 >&2\n")
	testbed.GiveTo(t, filepath.Dir(fake), testbed.RunAs)
	c = checkOf(t, m, "--ssh", fake)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "cannot run ssh: .*no such file", "")
	c.says(t, "FAIL", "login", "not tried", "mend what fails above")
}
