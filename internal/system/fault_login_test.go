package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// The faults that keep ssh from logging in. docs/FAULTS.md is their table.

// rejected is a fault that a person has to mend: clients are refused at once,
// and after a HUP the next one is served.
func rejected(t *testing.T, m *testbed.Minimail, why string, mend func()) {
	t.Helper()
	m.Refuses(t, why+`.*; next try in \d+ s$`)
	m.Refuses(t, why) // without another launch
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("ssh was launched %d times, want once", n)
	}
	m.Log.Wait(t, `the tunnel has ended by itself; once that is mended.*back_off=1m.*why=.*`+why)
	mend()
	_ = m.Cmd.Process.Signal(syscall.SIGHUP)
	m.Log.Wait(t, "back-off forgotten")
	m.Greets(t)
}

// failed is a fault that may pass by itself: clients are told when their
// patience ends, and the first one after that is served.
func failed(t *testing.T, m *testbed.Minimail, why string, mend func()) {
	t.Helper()
	m.Refuses(t, why)
	m.Log.Wait(t, `the tunnel has ended by itself.*back_off=[1-3]\.?\d*s.*why=.*`+why)
	mend()
	m.Serves(t)
}

func TestFault01WrongKey(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "IdentityFile "+h.Path("otherkey"))
	testbed.Write(t, h.Path("key"), "") // of no use
	m := h.Minimail(t, testbed.MailServer(t, nil))
	rejected(t, m, `Permission denied \(publickey\)`, func() {
		h.Configure(t, "IdentityFile "+h.Path("otherkey"))
		testbed.Write(t, h.Path("key.pub"), testbed.Read(t, h.Path("otherkey.pub")))
	})
}

func TestFault02UnknownHostKey(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	testbed.Write(t, h.Path("known_hosts"), "")
	m := h.Minimail(t, testbed.MailServer(t, nil))
	rejected(t, m, "Host key verification failed", func() { h.Trust(t, "hostkey.pub") })
}

func TestFault03ChangedHostKey(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Trust(t, "otherkey.pub")
	m := h.Minimail(t, testbed.MailServer(t, nil))
	rejected(t, m, "Host key verification failed", func() { h.Trust(t, "hostkey.pub") })
	m.Log.Wait(t, "REMOTE HOST IDENTIFICATION HAS CHANGED")
}

func TestFault03ChangedHostKeyThatIsNotChecked(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "StrictHostKeyChecking no")
	h.Trust(t, "otherkey.pub")
	m := h.Minimail(t, testbed.MailServer(t, nil))
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "host key", "is not the one in .*known_hosts", "ssh-keygen -R")
	rejected(t, m, "Port forwarding is disabled to avoid man-in-the-middle attacks .Offending .*known_hosts:1.", func() { h.Trust(t, "hostkey.pub") })
	m.Log.Wait(t, "killing ssh") // which would log in all the same, and stay
}

func TestFault04HostNameDoesNotResolve(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"# ssh -G looks for no name", "CanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal no\n# it does"} {
		h := testbed.NewHost(t)
		h.Configure(t, "HostName no-such-host.invalid", line)
		m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "6s")
		failed(t, m, `Could not resolve host.* \\*"?no-such-host.invalid`, func() { h.Configure(t) })
	}
}

func TestFault05ConnectionRefused(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Stop()
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "6s")
	failed(t, m, "Connection refused", func() { h.Start(t) })
}

func TestFault06NoAnswer(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "Port "+strconv.Itoa(blackHole(t)), "ConnectTimeout 1")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "8s")
	failed(t, m, "Connection timed out", func() { h.Configure(t) })
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
	h := testbed.NewHost(t)
	silent := testbed.Listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); <-t.Context().Done() })
	_, port, _ := net.SplitHostPort(silent)
	h.Configure(t, "Port "+port, "ConnectTimeout 1")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "8s")
	failed(t, m, "timed out", func() {
		h.Configure(t)
		_ = m.Cmd.Process.Signal(syscall.SIGHUP) // there may have been a second try
	})
}

// refusesToStart runs a prepared minimail, which must end with a usage error that
// has the words. It may run all the same if ssh has not answered its questions in
// 5 s, as on a busy machine; then there is another try.
func refusesToStart(t *testing.T, m *testbed.Minimail, words string) {
	t.Helper()
	var out []byte
	err := context.DeadlineExceeded
	for tries := 0; tries < 3 && errors.Is(err, context.DeadlineExceeded); tries++ {
		ctx, cancel := context.WithTimeout(context.Background(), testbed.Patience/2)
		cmd := exec.CommandContext(ctx, m.Cmd.Path, m.Cmd.Args[1:]...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = testbed.Patience
		out, err = cmd.CombinedOutput()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		cancel()
	}
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), words) {
		t.Errorf("%v, want exit status 2 and %q:\n%s", err, words, out)
	}
}

func TestFault08SSHIsNotInstalled(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	ssh := filepath.Join(testbed.PublicDir(t), "ssh")
	refusesToStart(t, h.Prepare(t, far, "--ssh", ssh), "cannot run ssh: fork/exec "+ssh+": no such file")
	refusesToStart(t, h.Prepare(t, far, "--ssh", "no-such-ssh"), `cannot run ssh: exec: "no-such-ssh": executable file not found`)
	link := func() {
		if err := os.Symlink("/usr/bin/ssh", ssh); err != nil {
			t.Fatal(err)
		}
	}
	link()
	m := h.Minimail(t, far, "--wait", "6s", "--ssh", ssh)
	if err := os.Remove(ssh); err != nil { // by an upgrade, say
		t.Fatal(err)
	}
	failed(t, m, "cannot run "+ssh+".*no such file", link)
}

func TestFault09BadSSHOption(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	refusesToStart(t, h.Prepare(t, far, "--ssh-option", "NoSuch=thing"), "Bad configuration option: nosuch")
	m := h.Minimail(t, far, "--wait", "6s")
	h.Configure(t, "NoSuch thing")
	m.Refuses(t, "Bad configuration option: nosuch|terminating, 1 bad configuration options")
}

// TestFault09AJumpHostBehindItself: ssh would start one ssh after another.
func TestFault09AJumpHostBehindItself(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	h.Configure(t, "ProxyJump bastion")
	testbed.Write(t, h.Path("ssh_config"), testbed.Read(t, h.Path("ssh_config"))+"Host bastion\n HostName 127.0.0.1\nHost *\n ProxyJump games@bastion:22\n")
	refusesToStart(t, m, "ssh does not like its settings: jumphost loop via games@bastion:22")
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
		"no forwards":                {"ClearAllForwardings yes"},
		"exit on forward failure":    {"ExitOnForwardFailure yes", "LocalForward %TAKEN% localhost:25"},
		"no exit on forward failure": {"ExitOnForwardFailure no"},
		"quiet":                      {"LogLevel QUIET"},
		"each line with its place":   {"LogVerbose *"},
		"a forward of the same port": {"LocalForward 127.0.0.1:%NEAR% localhost:9"},
		"the same forward":           {"LocalForward %NEAR% %FAR%"},
		"a remote forward":           {"RemoteForward %TAKEN% localhost:25"},
		"unknown options ignored":    {"IgnoreUnknown UseKeychain,Foo", "UseKeychain yes", "Foo bar"},
		"a session type":             {"SessionType default", "StdinNull no"},
		"compression and no batch":   {"Compression yes", "BatchMode no", "ConnectionAttempts 3", "VisualHostKey yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			if err := os.Chmod(h.Dir, 0o777); err != nil {
				t.Fatal(err)
			}
			taken := testbed.Listen(t, testbed.Echo)
			far := testbed.MailServer(t, nil)
			m := h.Prepare(t, far)
			_, takenPort, _ := net.SplitHostPort(taken)
			h.Configure(t, testbed.Expand(lines, "%DIR%", h.Dir, "%TAKEN%", takenPort, "%NEAR%", strconv.Itoa(m.Near), "%FAR%", far)...)
			m.Start(t)
			m.Greets(t)
			m.Down(t)
			if testbed.Exists(h.Path("was-here")) || testbed.Exists(h.Path("master")) {
				t.Error("a local command ran, or a master was made")
			}
			h.Configure(t, testbed.Expand(lines, "%DIR%", h.Dir, "%TAKEN%", takenPort, "%NEAR%", strconv.Itoa(m.Near), "%FAR%", far)...)
			c := m.Dial(t) // stay, to look at the near end
			defer c.Close()
			m.TheSSH(t)
			m.Log.Wait(t, "(?s)the tunnel answers.*the tunnel answers")
			if addr := testbed.WildcardListener(t, m.Near); addr != "" {
				t.Errorf("the near end is open to the network: %s", addr)
			}
		})
	}
}

func TestFault33AForwardAmongTheOptionsIsNotOurNearEnd(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]string{
		"of both families": "LocalForward=%NEAR% localhost:9",
		"of one":           "LocalForward=127.0.0.1:%NEAR% localhost:9",
		"dynamic":          "DynamicForward=%NEAR%",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			m := h.Prepare(t, testbed.MailServer(t, nil))
			m.Cmd.Args = append(m.Cmd.Args, "--ssh-option", strings.ReplaceAll(option, "%NEAR%", strconv.Itoa(m.Near)))
			m.Start(t)
			m.Greets(t)
		})
	}
}

func TestFault33LiveMaster(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	if err := os.Chmod(h.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.Configure(t, "ControlMaster auto", "ControlPath "+h.Path("master"), "ControlPersist yes")
	testbed.Run(t, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups",
		"ssh", "-N", "-f", "-F", h.Path("ssh_config"), "far")
	t.Cleanup(func() {
		testbed.Run(t, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups",
			"ssh", "-F", h.Path("ssh_config"), "-O", "exit", "far")
	})
	m := h.Minimail(t, testbed.MailServer(t, nil))
	m.Greets(t)
	m.Log.Wait(t, "Authenticated to")
	if n := m.Log.Count("Authenticated to"); n != 1 {
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
			h := testbed.NewHost(t)
			lines := testbed.Expand(lines, "%DIR%", h.Dir, "%PORT%", strconv.Itoa(h.Port))
			h.Configure(t, lines...)
			f := testbed.Read(t, h.Path("ssh_config"))
			testbed.Write(t, h.Path("ssh_config"), f+fmt.Sprintf(
				"Host jump\nHostName 127.0.0.1\nPort %d\nUser %s\nIdentityFile %s\nUserKnownHostsFile %s\n",
				h.Port, testbed.LoginAs, h.Path("key"), h.Path("known_hosts")))
			m := h.Minimail(t, testbed.MailServer(t, nil))
			c := m.Dial(t)
			if got := testbed.ReadLine(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
				t.Fatalf("greeting %q, want the far server's 220", got)
			}
			ssh := m.TheSSH(t)
			c.Close()
			m.Down(t)
			testbed.Eventually(t, "no helper of ssh is left", func() bool { return len(testbed.Session(ssh)) == 0 })
			if m.Log.Has("debug1") {
				t.Error("what only tells the hops apart is logged")
			}
		})
	}
}
