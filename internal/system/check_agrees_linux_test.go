package system

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// A setUp is a host, a far end and options, some of them good.
type setUp struct {
	name    string
	sshd    []string // lines of sshd_config
	config  []string // lines of ssh_config, in front
	options []string
	far     func(t *testing.T) string // nil: a mail server
	spoil   func(t *testing.T, h *testbed.Host, m *testbed.Minimail)
}

func farThat(serve func(net.Conn)) func(*testing.T) string {
	return func(t *testing.T) string { return testbed.Listen(t, serve) }
}

func says(words string) func(*testing.T) string {
	return farThat(func(c net.Conn) { _, _ = io.WriteString(c, words); _, _ = io.Copy(io.Discard, c) })
}

func replace(file, by string) func(*testing.T, *testbed.Host, *testbed.Minimail) {
	return func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
		testbed.Write(t, h.Path(file), testbed.Read(t, h.Path(by)))
	}
}

// byAJump makes the host a jump host, too.
func byAJump(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
	config := testbed.Read(t, h.Path("ssh_config"))
	testbed.Write(t, h.Path("ssh_config"), config+strings.Replace(strings.Replace(config, "Host far", "Host jump", 1), "ProxyJump", "# ", 1))
}

// instead has something else than sshd at the host's port.
func instead(serve func(net.Conn)) func(*testing.T, *testbed.Host, *testbed.Minimail) {
	return func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
		h.Stop()
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", h.Port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() { // ends when l is closed
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); serve(c) }()
			}
		}()
	}
}

func restricted(words string) func(*testing.T, *testbed.Host, *testbed.Minimail) {
	return func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
		testbed.Write(t, h.Path("key.pub"), words+" "+testbed.Read(t, h.Path("key.pub")))
	}
}

var setUps = []setUp{
	{name: "plain"},
	{name: "ControlMaster", config: []string{"ControlMaster auto", "ControlPath /tmp/%C", "ControlPersist yes"}},
	{name: "ForkAfterAuthentication", config: []string{"ForkAfterAuthentication yes"}},
	{name: "GatewayPorts", config: []string{"GatewayPorts yes"}},
	{name: "RequestTTY", config: []string{"RequestTTY force", "RemoteCommand true", "PermitLocalCommand yes", "LocalCommand false"}},
	{name: "quiet", config: []string{"LogLevel QUIET"}},
	{name: "loud", config: []string{"LogLevel DEBUG3"}},
	{name: "by a jump host", config: []string{"ProxyJump jump"}, spoil: byAJump},
	{name: "by a jump host that is not there", config: []string{"ProxyJump jump,nowhere.invalid"}, spoil: byAJump},
	{name: "ExitOnForwardFailure", config: []string{"ExitOnForwardFailure yes", "LocalForward 1 localhost:1"}},
	{name: "ClearAllForwardings", config: []string{"ClearAllForwardings yes", "SessionType none"}},
	{name: "a slow way", config: []string{"ProxyCommand sh -c 'sleep 1; exec nc %h %p'"}},
	{name: "AddressFamily", config: []string{"AddressFamily inet", "TCPKeepAlive no", "Compression yes"}},
	{name: "unknown option", config: []string{"IgnoreUnknown Fancy", "Fancy yes"}},
	{name: "a banner", sshd: []string{"Banner /etc/passwd"}},
	{name: "a host that is not remembered", config: []string{"StrictHostKeyChecking no", "UserKnownHostsFile /dev/null"}},
	{name: "a confined key", spoil: restricted(`restrict,port-forwarding,command="/bin/false"`)},
	{name: "another key first", config: []string{"IdentityFile /nonexistent/key"}},
	{name: "many clients", options: []string{"--max-clients", "1000000000"}},
	{name: "two tries", sshd: []string{"MaxAuthTries 2"}},
	{name: "local forwarding only", sshd: []string{"AllowTcpForwarding local"}},

	{name: "the key is refused", spoil: replace("key.pub", "otherkey.pub")},
	{name: "the host key is another", spoil: func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) { h.Trust(t, "otherkey.pub") }},
	{name: "the host key is unknown", spoil: func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) { testbed.Write(t, h.Path("known_hosts"), "") }},
	{name: "no sshd", spoil: func(_ *testing.T, h *testbed.Host, _ *testbed.Minimail) { h.Stop() }},
	{name: "no ssh in PATH", options: []string{"--ssh", "no-such-ssh"}},
	{name: "a bad option", options: []string{"--ssh-option", "NoSuchOption=yes"}},
	{name: "another user", sshd: []string{"AllowUsers nobody-at-all"}},
	{name: "passwords only", sshd: []string{"PubkeyAuthentication no", "PasswordAuthentication yes"}},
	{name: "a second factor", sshd: []string{"AuthenticationMethods publickey,password", "PasswordAuthentication yes"}},
	{name: "forwarding is forbidden", sshd: []string{"AllowTcpForwarding no"}},
	{name: "forwarding elsewhere only", sshd: []string{"PermitOpen localhost:1"}},
	{name: "a key that may not forward", spoil: restricted("restrict")},
	{name: "the way is missing", config: []string{"ProxyCommand no-such-program"}},
	{name: "the way ends", config: []string{"ProxyCommand false"}},
	{name: "no such host", config: []string{"HostName " + strings.Repeat("x", 70) + ".invalid"}},
	{name: "silence", spoil: instead(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), options: []string{"--wait", "3"}},
	{name: "a ban", spoil: instead(func(net.Conn) {})},
	{name: "no sshd, a web server", spoil: instead(func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"+strings.Repeat("x\r\n", 2000))
	})},
	{name: "a key that others can read", spoil: func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
		if err := os.Chmod(h.Path("key"), 0o644); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "no key", spoil: func(t *testing.T, h *testbed.Host, _ *testbed.Minimail) {
		if err := os.Remove(h.Path("key")); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "the far port is closed", far: func(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t)) }},
	{name: "the far server is busy", far: says("421 too busy\r\n")},
	{name: "the far server refuses", far: says("554 go away\r\n")},
	{name: "the far server is silent", far: says(""), options: []string{"--wait", "3"}},
	{name: "the far server hangs up", far: farThat(func(net.Conn) {})},
	{name: "the near end is somebody else's", spoil: func(t *testing.T, _ *testbed.Host, m *testbed.Minimail) {
		for _, at := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(at, fmt.Sprint(m.Near)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}
	}},
}

// TestCheckIsWellIfAndOnlyIfAMailGoesThrough compares its verdict on many
// set-ups, good and bad, with a mail right after.
func TestCheckIsWellIfAndOnlyIfAMailGoesThrough(t *testing.T) {
	t.Parallel()
	for _, s := range setUps {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t, s.sshd...)
			h.Configure(t, s.config...)
			far := func(t *testing.T) string { return testbed.MailServer(t, nil) }
			if s.far != nil {
				far = s.far
			}
			m := h.Prepare(t, far(t), append([]string{"--wait", "15"}, s.options...)...)
			if s.spoil != nil {
				s.spoil(t, h, m)
			}
			c, err := bothOf(t, m)
			if (err == nil) != (c.code < 2) { // a busy machine may need longer
				t.Logf("at first check exits %d, and the mail: %v", c.code, err)
				m.Cmd = exec.Command(m.Cmd.Path, append(m.Cmd.Args[1:], "--wait", "60")...)
				c, err = bothOf(t, m)
			}
			if (err == nil) != (c.code < 2) {
				t.Errorf("check exits %d, and the mail: %v\n%s", c.code, err, c.out)
			}
		})
	}
}

func bothOf(t *testing.T, m *testbed.Minimail) (checked, error) {
	t.Helper()
	c := checkOf(t, m)
	return c, mailBy(t, m)
}

// mailBy starts m, if it will, and sends a mail.
func mailBy(t *testing.T, m *testbed.Minimail) error {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.Cmd.Stderr = log
	if err := m.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Cmd.Wait() }()
	defer func() {
		_ = m.Cmd.Process.Signal(syscall.SIGTERM)
		ended <- <-ended
	}()
	at := fmt.Sprintf("127.0.0.1:%d", m.Port)
	for deadline := time.Now().Add(testbed.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("minimail has ended: %w", err)
		default:
		}
		if c, err := net.Dial("tcp4", at); err == nil {
			c.Close()
			return testbed.Send(at, "is check right?")
		}
	}
	return os.ErrDeadlineExceeded
}
