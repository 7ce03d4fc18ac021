//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/tunnel/peer"
)

func TestCheckNamesAMissingKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	if err := os.Rename(h.path("key"), h.path("away")); err != nil {
		t.Fatal(err)
	}
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "key", "no key: ssh looks for "+q(h.path("key")), q("sudo -H -u "+runAs+" ssh-keygen -t ed25519 -N '' -f "+h.path("key")))
	c.says(t, "FAIL", "login", `Permission denied \(publickey\).*: the host does not accept the key`, "ssh-copy-id ")
	if err := os.Rename(h.path("away"), h.path("key")); err != nil {
		t.Fatal(err)
	}
	m.check(t).isWell(t)
}

func TestCheckNamesAKeyWithAPassphrase(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	command(t, "ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", h.path("key"))
	giveTo(t, h.path("key"), runAs)
	c := m.check(t)
	c.exits(t, 2)
	mend := "ssh-keygen -p -N '' -f " + h.path("key")
	c.says(t, "WARN", "key", q(h.path("key"))+" has a passphrase: under sudo and at boot nobody is asked for it, and logins will fail", q(mend))
	c.says(t, "FAIL", "login", `Permission denied.*: ssh had no key that it could use, see key above`, q(mend))
	command(t, "sh", "-c", mend+" -q -P secret")
	giveTo(t, h.path("key"), runAs)
	m.check(t).isWell(t)
}

// TestCheckWarnsOfAKeyThatOnlyAnAgentHas: it works now, and will not at boot.
func TestCheckWarnsOfAKeyThatOnlyAnAgentHas(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	dir := publicDir(t)
	giveTo(t, dir, runAs)
	socket := filepath.Join(dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	asNobody(t, "/")(agent)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	eventually(t, "the agent listens", func() bool { return exists(socket) })
	add := exec.Command("ssh-add", "-q", h.path("key"))
	asNobody(t, "/", "SSH_AUTH_SOCK="+socket)(add)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	withAgent := func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket) }

	command(t, "ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", h.path("key"))
	giveTo(t, h.path("key"), runAs)
	c := runCheck(t, withAgent, m.cmd.Args[1:]...)
	c.exits(t, 1)
	c.says(t, "WARN", "key", "has a passphrase: under sudo and at boot .* logins will fail .your agent may have it now", "ssh-keygen -p")
	c.says(t, "OK", "login", "", "")

	if err := os.Remove(h.path("key")); err != nil {
		t.Fatal(err)
	}
	c = runCheck(t, withAgent, m.cmd.Args[1:]...)
	c.exits(t, 1)
	c.says(t, "WARN", "key", `only your agent has keys \(1\): there is none under sudo and at boot`, "ssh-keygen -t ed25519")
	c.says(t, "OK", "login", "", "")
}

func TestCheckNamesAKeyThatSSHWillNotUse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	for _, k := range []struct{ spoil, text, mend string }{
		{"chmod 644 " + h.path("key"), `can be read by others \(mode 0644\)`, "chmod 600 " + h.path("key")},
		{"chown 0 " + h.path("key"), "cannot be read by " + runAs, "sudo chown " + runAs + " " + h.path("key")},
	} {
		command(t, "sh", "-c", k.spoil)
		c := m.check(t)
		c.exits(t, 2)
		c.says(t, "FAIL", "key", k.text, q(k.mend))
		command(t, "sh", "-c", strings.TrimPrefix(k.mend, "sudo "))
		m.check(t).isWell(t)
	}
}

// TestCheckNamesAWrongHost: the name is one that no name server is asked for.
func TestCheckNamesAWrongHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	name := strings.Repeat("x", 70) + ".invalid"
	good := read(t, m.config)
	write(t, m.config, strings.Replace(good, "HostName 127.0.0.1", "HostName "+name, 1))
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "Could not resolve hostname "+name+".*: there is no host of that name", "getent hosts "+name)
	write(t, m.config, good)
	m.check(t).isWell(t)

	h.stop()
	c = m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "Connection refused: no sshd listens there", "--ssh-option Port=N .now "+strconv.Itoa(h.port))
	h.start(t)
	m.check(t).isWell(t)
}

func TestCheckNamesAHostKeyThatIsNotKnown(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	name := fmt.Sprintf("[127.0.0.1]:%d", h.port)
	write(t, h.path("known_hosts"), "")
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q("the key of "+name+" is not known: it is not in "+h.path("known_hosts")),
		q("sudo -H -u "+runAs+" ssh -o StrictHostKeyChecking=ask -F "+m.config+" -- far"))
	h.trust(t, "otherkey.pub")
	c = m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", q("the key of "+name+" is not the one in "+h.path("known_hosts")),
		q("ssh-keygen -R '"+name+"' -f "+h.path("known_hosts")))
	h.trust(t, "hostkey.pub")
	m.check(t).isWell(t)
}

func TestCheckNamesWhoHasThePort(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", m.port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "port", fmt.Sprintf(`127\.0\.0\.1:%d is held by %s, pid %d, uid 0 \(root\)`, m.port, q(peer.ProcessOf(os.Getpid()).Name), os.Getpid()),
		fmt.Sprintf("sudo kill %d", os.Getpid()))
	c.says(t, "FAIL", "port", "", fmt.Sprintf("or another port: --forward %d:%d:", otherPort(m.port), m.near))
	l.Close()
	m.check(t).isWell(t)
}

// TestCheckNamesWhoHasTheTunnelsPort: if one family is left, ssh is content.
func TestCheckNamesWhoHasTheTunnelsPort(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address := somebodysServer(t, "tcp4", intruder)
	_, near, _ := net.SplitHostPort(address)
	m := h.prepare(t, listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 the true one\r\n") }))
	args := strings.ReplaceAll(strings.Join(m.cmd.Args[1:], "\n"), fmt.Sprintf("%d:%d:", m.port, m.near), fmt.Sprintf("%d:%s:", m.port, near))
	whose := fmt.Sprintf(`%s is held by \S+, pid \d+, uid %d \(%s\)`, q(address), uidOf(t, intruder), intruder)
	mend := fmt.Sprintf("or another port for the tunnel: --forward %d:", m.port)

	c := runCheck(t, nil, strings.Split(args, "\n")...)
	c.exits(t, 1)
	c.says(t, "OK", "far end", "says: 220 the true one", "") // through a spare near end
	c.says(t, "WARN", "tunnel", whose+"; ssh will use the other address", `sudo kill \d+`)

	l, err := net.Listen("tcp6", "[::1]:"+near)
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer l.Close()
	c = runCheck(t, nil, strings.Split(args, "\n")...)
	c.exits(t, 2)
	c.says(t, "OK", "far end", "says: 220 the true one", "")
	c.says(t, "FAIL", "tunnel", whose+fmt.Sprintf(`; \[::1\]:%s is held by \S+, pid %d`, near, os.Getpid()), mend)
	m.check(t).isWell(t) // with the other port
}

func TestCheckNamesForwardingThatIsForbidden(t *testing.T) {
	t.Parallel()
	h := newHost(t, "AllowTcpForwarding no")
	m := h.prepare(t, mailServer(t, nil))
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "OK", "login", "", "")
	c.says(t, "FAIL", "far end", "administratively prohibited.*; the host's sshd does not let us forward to there", "sshd_config over there: AllowTcpForwarding yes")
	h.restartWith(t, "AllowTcpForwarding no", "AllowTcpForwarding yes")
	m.check(t).isWell(t)
}

func TestCheckNamesAFarPortThatIsClosed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	m := h.prepare(t, far)
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "OK", "login", "", "")
	c.says(t, "FAIL", "far end", q(far)+", as seen from far: connect failed: Connection refused; no mail server listens there", "start the mail server")
	l, err := net.Listen("tcp4", far)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			speakSMTP(c, nil)
			c.Close()
		}
	}()
	m.check(t).isWell(t)
}

func TestCheckNamesAFarServerThatTakesNoMail(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	busy := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "421 too\x1b[2Jbusy\r\n") })
	c := h.prepare(t, busy).check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", q(busy)+" does not take mail now: 421 too"+q("?[2J")+"busy", "--protocol tcp")
}

func TestCheckNamesAUserWhoIsMissing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	c := m.check(t, "--user", "no-such-user")
	c.exits(t, 2)
	c.says(t, "FAIL", "user", `there is no user "no-such-user"`, "--user NAME")
	c = m.check(t, "--user", "")
	c.exits(t, 2)
	c.says(t, "FAIL", "user", "root has to become somebody else", "SUDO_USER=NAME in /etc/default/minimail")
	if h.log.has("Accepted") {
		t.Error("somebody has logged in")
	}
	m.check(t).isWell(t)
}

func TestCheckNamesAHomeThatIsTooOpen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	home := publicDir(t)
	ssh := filepath.Join(home, ".ssh")
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	giveTo(t, home, runAs)
	giveTo(t, ssh, runAs)
	run := func() checked { t.Helper(); return runCheck(t, asNobody(t, home), m.cmd.Args[1:]...) }
	run().isWell(t)
	if err := os.Chmod(ssh, 0o770); err != nil {
		t.Fatal(err)
	}
	c := run()
	c.exits(t, 1)
	c.says(t, "WARN", "~/.ssh", q("others can write to "+ssh+" (mode 0770)"), q("chmod 700 "+ssh))
	command(t, "sh", "-c", "chmod 700 "+ssh)
	run().isWell(t)
}

// TestCheckExplainsABan: that is how one looks from here.
func TestCheckExplainsABan(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	h.stop()
	knocks := make(chan bool, 100)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", h.port))
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
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", `kex_exchange_identification: .*: the connection was closed before the banner; .*fail2ban, PerSourcePenalties.*MaxStartups`, "fail2ban-client")
	if n := len(knocks); n != 1 {
		t.Errorf("%d knocks at a host that may ban us for them", n)
	}
	l.Close()
	h.start(t)
	m.check(t).isWell(t)
}

func TestCheckNamesAnSSHThatIsMissingOrDoesNotLikeItsSettings(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	c := m.check(t, "--ssh", "no-such-ssh")
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh", "cannot run ssh: .*no-such-ssh", "sudo apt install openssh-client")
	c.says(t, "FAIL", "login", "not tried", "mend what fails above")

	c = m.check(t, "--ssh-option", "NoSuchOption=yes")
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "(?i)nosuchoption", "--ssh-option")
	c.says(t, "FAIL", "login", "not tried", "mend what fails above")

	// A stand-in, as a test has no say in where ssh finds ~/.ssh/config.
	fake := filepath.Join(publicDir(t), "ssh")
	write(t, fake, "#!/bin/sh\n[ \"$1\" = -V ] && { echo OpenSSH_9.2p1 >&2; exit; }\necho 'Bad owner or permissions on /home/me/.ssh/config' >&2\nexit 255\n")
	if err := os.Chmod(fake, 0o755); err != nil {
		t.Fatal(err)
	}
	c = m.check(t, "--ssh", fake)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh -G", "Bad owner or permissions on /home/me/.ssh/config", "sudo chown "+runAs+" /home/me/.ssh/config && chmod 600 /home/me/.ssh/config")
}

func TestCheckNamesADirectoryThatCannotHoldTheTunnelsSocket(t *testing.T) {
	t.Parallel()
	h, far := newHost(t), mailServer(t, nil)
	dir := publicDir(t)
	m := h.prepare(t, far)
	args := strings.Split(strings.ReplaceAll(strings.Join(m.cmd.Args[1:], "\n"), fmt.Sprintf(":%d:", m.near), ":"+dir+"/near:"), "\n")
	c := runCheck(t, nil, args...)
	c.exits(t, 2)
	c.says(t, "FAIL", "tunnel", runAs+" cannot make a socket in "+q(dir), "sudo install -d -m 700 -o "+runAs+" "+q(dir))
	command(t, "install", "-d", "-m", "700", "-o", runAs, dir)
	runCheck(t, nil, args...).isWell(t)
}

// TestAFarServerThatHangsUpIsDialedOnce: one that counts has no more to count,
// and the far ends after it are tried all the same.
func TestAFarServerThatHangsUpIsDialedOnce(t *testing.T) {
	t.Parallel()
	h, good := newHost(t), mailServer(t, nil)
	knocks := make(chan bool, 100)
	rude := listen(t, func(net.Conn) { knocks <- true })
	m := h.prepare(t, rude, "--forward", fmt.Sprintf("%d:%d:%s", freePort(t), freePort(t), good))
	c := m.check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", q(rude)+", as seen from far: the mail server ended the connection without a greeting",
		q(fmt.Sprintf("--forward %d:%d:FARHOST:FARPORT", m.port, m.near)))
	c.says(t, "OK", "far end", q(good)+" says: 220 far.test", "")
	if n := len(knocks); n != 1 {
		t.Errorf("it was dialed %d times", n)
	}
}

func TestCheckNamesALimitOfOpenFilesThatItMeets(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	c := runCheck(t, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -n 10; exec "$@"`, "sh"}, append([]string{program}, cmd.Args[1:]...)...)
		cmd.Path = "/bin/sh"
	}, m.cmd.Args[1:]...)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh", "too many open files", "ulimit -n 4096")
	c.says(t, "WARN", "limits", "10 open files are enough for 1 clients at a time, not for 256", "--max-clients 1")
	m.check(t).isWell(t)
}

// somebodysServer is the address of a server that another user runs.
func somebodysServer(t *testing.T, network, name string) string {
	t.Helper()
	needRoot(t)
	uid := uidOf(t, name)
	cmd := exec.Command(fakeProgram(t, "fake-server"), network, "127.0.0.1:0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // that ends it
		_ = cmd.Wait()
	})
	s, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	return strings.TrimSpace(s)
}
