package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The faults that keep ssh from logging in. docs/FAULTS.md is their table.

// rejected is a fault that a person has to mend: clients are refused at once,
// and after a HUP the next one is served.
func rejected(t *testing.T, m *minimail, why string, mend func()) {
	t.Helper()
	m.refuses(t, why+`.*; next try in \d+ s$`)
	m.refuses(t, why) // without another launch
	if n := m.log.count("launched ssh"); n != 1 {
		t.Errorf("ssh was launched %d times, want once", n)
	}
	m.log.wait(t, `the tunnel has ended by itself; once that is mended.*back_off=1m.*why=.*`+why)
	mend()
	_ = m.cmd.Process.Signal(syscall.SIGHUP)
	m.log.wait(t, "back-off forgotten")
	m.greets(t)
}

// failed is a fault that may pass by itself: clients are told when their
// patience ends, and the first one after that is served.
func failed(t *testing.T, m *minimail, why string, mend func()) {
	t.Helper()
	m.refuses(t, why)
	m.log.wait(t, `the tunnel has ended by itself.*back_off=1\.?\d*s.*why=.*`+why)
	mend()
	m.serves(t)
}

func TestFault01WrongKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, "IdentityFile "+h.path("otherkey"))
	write(t, h.path("key"), "") // of no use
	m := h.minimail(t, mailServer(t, nil))
	rejected(t, m, `Permission denied \(publickey\)`, func() {
		h.configure(t, "IdentityFile "+h.path("otherkey"))
		write(t, h.path("key.pub"), read(t, h.path("otherkey.pub")))
	})
}

func TestFault02UnknownHostKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	write(t, h.path("known_hosts"), "")
	m := h.minimail(t, mailServer(t, nil))
	rejected(t, m, "Host key verification failed", func() { h.trust(t, "hostkey.pub") })
}

func TestFault03ChangedHostKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.trust(t, "otherkey.pub")
	m := h.minimail(t, mailServer(t, nil))
	rejected(t, m, "Host key verification failed", func() { h.trust(t, "hostkey.pub") })
	m.log.wait(t, "REMOTE HOST IDENTIFICATION HAS CHANGED")
}

func TestFault04HostNameDoesNotResolve(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, "HostName no-such-host.invalid")
	m := h.minimail(t, mailServer(t, nil), "--wait", "3s")
	failed(t, m, "Could not resolve hostname no-such-host.invalid", func() { h.configure(t) })
}

func TestFault05ConnectionRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stop()
	m := h.minimail(t, mailServer(t, nil), "--wait", "3s")
	failed(t, m, "Connection refused", func() { h.start(t) })
}

func TestFault06NoAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, "Port "+strconv.Itoa(blackHole(t)))
	m := h.minimail(t, mailServer(t, nil), "--wait", "3s", "--ssh-option", "ConnectTimeout=1")
	failed(t, m, "Connection timed out", func() { h.configure(t) })
}

// blackHole is a loopback port that does not answer: its queue is full.
func blackHole(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*syscall.SockaddrInet4).Port
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return port
}

func TestFault07BannerNeverComes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	silent := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); <-t.Context().Done() })
	_, port, _ := net.SplitHostPort(silent)
	h.configure(t, "Port "+port)
	m := h.minimail(t, mailServer(t, nil), "--wait", "3s", "--ssh-option", "ConnectTimeout=1")
	failed(t, m, "timed out", func() { h.configure(t) })
}

func TestFault08SSHIsNotInstalled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ssh := filepath.Join(publicDir(t), "ssh")
	m := h.minimail(t, mailServer(t, nil), "--wait", "3s", "--ssh", ssh)
	m.log.wait(t, "cannot run ssh")
	failed(t, m, "cannot run "+ssh+".*no such file", func() {
		if err := os.Symlink("/usr/bin/ssh", ssh); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFault09BadSSHOption(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := mailServer(t, nil)
	m := h.minimail(t, far, "--wait", "1s", "--ssh-option", "NoSuch=thing")
	m.refuses(t, "Bad configuration option: nosuch")
	m.end(t, syscall.SIGTERM)
	h.minimail(t, far).greets(t)
}

func TestFault33HostileConfig(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"control master":             {"ControlMaster auto", "ControlPath %DIR%/master", "ControlPersist yes"},
		"fork after authentication":  {"ForkAfterAuthentication yes"},
		"gateway ports":              {"GatewayPorts yes"},
		"request tty":                {"RequestTTY force"},
		"remote command":             {"RemoteCommand echo hello"},
		"local command":              {"PermitLocalCommand yes", "LocalCommand touch %DIR%/was-here"},
		"exit on forward failure":    {"ExitOnForwardFailure yes", "LocalForward %TAKEN% localhost:25"},
		"no exit on forward failure": {"ExitOnForwardFailure no"},
		"quiet":                      {"LogLevel QUIET"},
		"a forward of the same port": {"LocalForward 127.0.0.1:%NEAR% localhost:9"},
		"the same forward":           {"LocalForward %NEAR% %FAR%"},
		"a remote forward":           {"RemoteForward %TAKEN% localhost:25"},
		"unknown options ignored":    {"IgnoreUnknown UseKeychain,Foo", "UseKeychain yes", "Foo bar"},
		"a session type":             {"SessionType default", "StdinNull no"},
		"compression and no batch":   {"Compression yes", "BatchMode no", "ConnectionAttempts 3", "VisualHostKey yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if err := os.Chmod(h.dir, 0o777); err != nil {
				t.Fatal(err)
			}
			taken := listen(t, echo)
			far := mailServer(t, nil)
			m := h.prepare(t, far)
			_, takenPort, _ := net.SplitHostPort(taken)
			h.configure(t, expand(lines, "%DIR%", h.dir, "%TAKEN%", takenPort, "%NEAR%", strconv.Itoa(m.near), "%FAR%", far)...)
			m.start(t)
			m.greets(t)
			m.down(t)
			if exists(h.path("was-here")) || exists(h.path("master")) {
				t.Error("a local command ran, or a master was made")
			}
			h.configure(t, expand(lines, "%DIR%", h.dir, "%TAKEN%", takenPort, "%NEAR%", strconv.Itoa(m.near), "%FAR%", far)...)
			c := m.dial(t) // stay, to look at the near end
			defer c.Close()
			m.theSSH(t)
			m.log.wait(t, "(?s)the tunnel answers.*the tunnel answers")
			if addr := wildcardListener(t, m.near); addr != "" {
				t.Errorf("the near end is open to the network: %s", addr)
			}
		})
	}
}

func TestFault33LiveMaster(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := os.Chmod(h.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.configure(t, "ControlMaster auto", "ControlPath "+h.path("master"), "ControlPersist yes")
	command(t, "setpriv", "--reuid="+runAs, "--regid=nogroup", "--clear-groups",
		"ssh", "-N", "-f", "-F", h.path("ssh_config"), "far")
	t.Cleanup(func() {
		command(t, "setpriv", "--reuid="+runAs, "--regid=nogroup", "--clear-groups",
			"ssh", "-F", h.path("ssh_config"), "-O", "exit", "far")
	})
	m := h.minimail(t, mailServer(t, nil))
	m.greets(t)
	if n := m.log.count("Authenticated to"); n != 1 {
		t.Errorf("%d logins of its own, want 1", n)
	}
}

func TestFault34ProxyJumpAndProxyCommand(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"jump":           {"ProxyJump jump"},
		"command":        {"ProxyCommand nc 127.0.0.1 %PORT%"},
		"stubborn child": {"ProxyCommand sh -c 'trap \"\" TERM HUP; nc 127.0.0.1 %PORT%; sleep 1000'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			lines := expand(lines, "%DIR%", h.dir, "%PORT%", strconv.Itoa(h.port))
			h.configure(t, lines...)
			f := read(t, h.path("ssh_config"))
			write(t, h.path("ssh_config"), f+fmt.Sprintf(
				"Host jump\nHostName 127.0.0.1\nPort %d\nUser %s\nIdentityFile %s\nUserKnownHostsFile %s\n",
				h.port, loginAs, h.path("key"), h.path("known_hosts")))
			m := h.minimail(t, mailServer(t, nil))
			c := m.dial(t)
			if got := line(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
				t.Fatalf("greeting %q, want the far server's 220", got)
			}
			ssh := m.theSSH(t)
			c.Close()
			m.down(t)
			eventually(t, "no helper of ssh is left", func() bool { return len(session(ssh)) == 0 })
		})
	}
}
