package openssh

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// chained are real hosts, and an ssh_config with all of them, with lines in front
// of those of far. The others are called a, b, and so on.
func chained(t *testing.T, lines string, far *testbed.Host, jumps ...*testbed.Host) *Client {
	t.Helper()
	text := lines + "\n" + testbed.Read(t, far.Path("ssh_config"))
	for i, j := range jumps {
		name := string(rune('a' + i))
		text += strings.Replace(testbed.Read(t, j.Path("ssh_config")), "Host far", "Host "+name, 1)
	}
	config := filepath.Join(far.Dir, "chain")
	testbed.Write(t, config, text)
	c := real(t, "")
	c.ConfigFile, c.Forwards = config, nil
	if _, err := c.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// refusing has a host that does not know the key.
func refusing(t *testing.T, h *testbed.Host) {
	t.Helper()
	testbed.Write(t, h.Path("key.pub"), testbed.Read(t, h.Path("otherkey.pub")))
}

// listening is a host that is no sshd any more, but serve.
func listening(t *testing.T, h *testbed.Host, serve func(net.Conn)) {
	t.Helper()
	h.Stop()
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", h.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go testbed.AcceptAll(l, serve)
}

func hangsUp(net.Conn) {}

// TestWhoOfAChainOfHostsFailsIsKnown: however the jump hosts are given, the
// verdict is about the one that fails, and names it as ssh does.
func TestWhoOfAChainOfHostsFailsIsKnown(t *testing.T) {
	for name, test := range map[string]struct {
		lines string // in front of Host far; A is the port of a
		spoil func(t *testing.T, far, a, b *testbed.Host)
		means Meaning
		hop   string // as far as it is to be known; empty: not on the way
	}{
		"one, by its alias": {"Host far\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) { refusing(t, a) }, KeyRefused, "a"},
		"one, in a Match":   {"Match originalhost far\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) { refusing(t, a) }, KeyRefused, "a"},
		"one, with user and port": {"Match originalhost 127.0.0.1\nHostKeyAlias a\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nHost far\nProxyJump games@127.0.0.1:A", nil, KeyRefused,
			"User=games Port=A 127.0.0.1"},
		"one, as a URI":  {"Host far\nProxyJump ssh://games@127.0.0.1:A", nil, HostKey, "User=games Port=A 127.0.0.1"},
		"one, by IPv6":   {"Host far\nProxyJump [::1]:A", nil, Refused, "Port=A ::1"},
		"one, not there": {"Host far\nProxyJump a", func(_ *testing.T, _, a, _ *testbed.Host) { a.Stop() }, Refused, "a"},
		"one, a second factor wanted": {"Host far\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) {
			a.RestartWith(t, "PasswordAuthentication no", "AuthenticationMethods publickey,password\nPasswordAuthentication yes")
		}, MoreWanted, "a"},
		"one, a second key wanted": {"Host far\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) {
			a.RestartWith(t, "UsePAM no", "UsePAM no\nAuthenticationMethods publickey,publickey")
		}, MoreWanted, "a"},
		"one that hangs up":                 {"Host far\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) { listening(t, a, hangsUp) }, HungUp, "a"},
		"one, and a host that hangs up":     {"Host far\nProxyJump a", func(t *testing.T, far, _, _ *testbed.Host) { listening(t, far, hangsUp) }, HungUp, ""},
		"one, and a host that is not there": {"Host far\nProxyJump a", func(_ *testing.T, far, _, _ *testbed.Host) { far.Stop() }, JumpBlocked, "a"},
		"one, and a host that ends the login": {"Host far\nProxyJump a", func(t *testing.T, far, _, _ *testbed.Host) {
			listening(t, far, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-Gone\r\n"); _, _ = c.Read(make([]byte, 1024)) })
		}, Closed, ""},
		"two, the first refuses":        {"Host far\nProxyJump a,b", func(t *testing.T, _, a, _ *testbed.Host) { refusing(t, a) }, KeyRefused, "a"},
		"two, the second refuses":       {"Host far\nProxyJump a,b", func(t *testing.T, _, _, b *testbed.Host) { refusing(t, b) }, KeyRefused, "ProxyJump=a b"},
		"two, the second is not there":  {"Host far\nProxyJump a,b", func(_ *testing.T, _, _, b *testbed.Host) { b.Stop() }, JumpBlocked, "a"},
		"two, the second hangs up":      {"Host far\nProxyJump a,b", func(t *testing.T, _, _, b *testbed.Host) { listening(t, b, hangsUp) }, HungUp, "ProxyJump=a b"},
		"two, and the host not there":   {"Host far\nProxyJump a,b", func(_ *testing.T, far, _, _ *testbed.Host) { far.Stop() }, JumpBlocked, "ProxyJump=a b"},
		"two, and the host refuses":     {"Host far\nProxyJump a,b", func(t *testing.T, far, _, _ *testbed.Host) { refusing(t, far) }, KeyRefused, ""},
		"one by the other, as it wants": {"Host far\nProxyJump b\nHost b\nProxyJump a", func(t *testing.T, _, a, _ *testbed.Host) { refusing(t, a) }, KeyRefused, "a"},
		"the same, and that one":        {"Host far\nProxyJump b\nHost b\nProxyJump a", func(t *testing.T, _, _, b *testbed.Host) { refusing(t, b) }, KeyRefused, "b"},
		"QUIET ones":                    {"Host *\nLogLevel QUIET\nHost far\nProxyJump a,b", func(t *testing.T, _, a, _ *testbed.Host) { refusing(t, a) }, KeyRefused, "a"},
		"ones that say where":           {"Host *\nLogVerbose *\nHost far\nProxyJump a,b", func(t *testing.T, _, _, b *testbed.Host) { refusing(t, b) }, KeyRefused, "ProxyJump=a b"},
		"the same, and it hangs up":     {"Host *\nLogVerbose *\nHost far\nProxyJump a,b", func(t *testing.T, _, _, b *testbed.Host) { listening(t, b, hangsUp) }, HungUp, "ProxyJump=a b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, a, b := testbed.NewHost(t), testbed.NewHost(t), testbed.NewHost(t)
			port := strings.NewReplacer(":A", fmt.Sprint(":", a.Port), "=A", fmt.Sprint("=", a.Port))
			if test.spoil != nil {
				test.spoil(t, far, a, b)
			}
			c := chained(t, port.Replace(test.lines), far, a, b)
			heard, v := listenTo(t, c)
			if v.Means != test.means || v.OnTheWay != (test.hop != "") || heard.Failure != meanings[test.means].failure {
				t.Errorf("%+v, %+v", heard, v)
			}
			hop := strings.Join(append(v.Hop.Options, v.Hop.Host), " ")
			if hop != port.Replace(test.hop) {
				t.Errorf("at %q, want %q", hop, port.Replace(test.hop))
			}
			if !strings.Contains(heard.Why, v.Line) || strings.HasPrefix(heard.Why, "on the way to the host: ") != v.OnTheWay {
				t.Errorf("the words are %q", heard.Why)
			}
		})
	}
}
