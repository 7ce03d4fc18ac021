package openssh

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// everything is a file with every line of the table, as ssh itself ends its lines.
func everything(t *testing.T) string {
	t.Helper()
	file := filepath.Join(testbed.PublicDir(t), "banner")
	var lines strings.Builder
	for _, f := range forms {
		lines.WriteString(example(f.line) + "\r\n")
	}
	testbed.Write(t, file, lines.String())
	return file
}

// A real host prints a banner in the middle of the login, to ssh's standard error.
func TestABannerOfEveryFormDecidesNothing(t *testing.T) {
	banner := everything(t)
	h := testbed.NewHost(t, "Banner "+banner)
	c := &Client{Env: Env(), Command: Command{Program: "ssh", ConfigFile: h.Path("ssh_config"), Host: "far"}}
	for name, test := range map[string]struct {
		config []string
		want   Meaning
		letIn  bool
	}{
		"a login that works":     {nil, "", true},
		"a key that is refused":  {[]string{"PubkeyAuthentication no"}, KeyRefused, false},
		"a host that is unknown": {[]string{"UserKnownHostsFile /dev/null"}, HostKey, false},
	} {
		t.Run(name, func(t *testing.T) {
			h.Configure(t, test.config...)
			heard, verdict := listenTo(t, c)
			if heard.LetIn != test.letIn || verdict.Means != test.want || heard.NearEnd != "" {
				t.Errorf("%+v, %+v", heard, verdict)
			}
			if !test.letIn && heard.Failure != meanings[test.want].failure {
				t.Errorf("it means %q for the next pause", heard.Failure)
			}
		})
	}
}

// A jump host's banner comes by the same standard error as its ssh's words.
func TestAJumpHostsBannerOfEveryFormDecidesNothing(t *testing.T) {
	banner := everything(t)
	for name, test := range map[string]struct {
		spoil func(t *testing.T, far, jump *testbed.Host)
		means Meaning
		hop   string
	}{
		"and the way is good":   {func(*testing.T, *testbed.Host, *testbed.Host) {}, "", ""},
		"and it refuses":        {func(t *testing.T, _, jump *testbed.Host) { refusing(t, jump) }, KeyRefused, "a"},
		"and the host refuses":  {func(t *testing.T, far, _ *testbed.Host) { refusing(t, far) }, KeyRefused, ""},
		"and the host hangs up": {func(t *testing.T, far, _ *testbed.Host) { listening(t, far, hangsUp) }, HungUp, ""},
		"and the host is gone":  {func(_ *testing.T, far, _ *testbed.Host) { far.Stop() }, JumpBlocked, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, jump := testbed.NewHost(t, "Banner "+banner), testbed.NewHost(t, "Banner "+banner)
			test.spoil(t, far, jump)
			heard, v := listenTo(t, chained(t, "Host far\nProxyJump a", far, jump))
			if heard.LetIn != (test.means == "") || v.Means != test.means || v.OnTheWay != (test.hop != "") || heard.NearEnd != "" {
				t.Errorf("%+v, %+v", heard, v)
			}
		})
	}
}

// A host may say why it ends a login, and ssh writes that into its log, ends of
// lines and all.
func TestWhatAHostSaysAsItSendsUsAwayDecidesNothing(t *testing.T) {
	h := testbed.NewHost(t)
	why := make(chan string, 1)
	listening(t, h, func(c net.Conn) { sendAway(c, <-why) })
	for _, f := range forms {
		line := example(f.line)
		if f.means == Chatter || f.means == Leave {
			continue
		}
		why <- "go\r\n" + line + "\r\n" + line + "."
		heard, v := listenTo(t, &Client{Env: Env(), Command: Command{Program: "ssh", ConfigFile: h.Path("ssh_config"), Host: "far"}})
		if v.Means != SentAway || heard.LetIn || heard.NearEnd != "" || heard.Failure != Unclear || !strings.HasSuffix(heard.Why, ":11: go") {
			t.Errorf("%q: %+v, %+v", line, heard, v)
		}
	}
}

// What a host says for who debugs is in ssh's log as well, if that is verbose; here
// before anybody knows who the host is.
func TestWhatAHostSaysForWhoDebugsDecidesNothing(t *testing.T) {
	h := testbed.NewHost(t)
	var words strings.Builder
	for _, f := range forms {
		if slices.Contains([]Meaning{LetIn, HostKey, KeyRefused, Refused, NoNearEnd}, f.means) {
			words.WriteString("\r\n" + example(f.line))
		}
	}
	if words.Len() > 900 { // as much as ssh logs
		t.Fatalf("%d bytes", words.Len())
	}
	listening(t, h, func(c net.Conn) { send(c, 4, "\x01", "look"+words.String()+"\r\n", "") })
	heard, v := listenTo(t, &Client{Env: Env(), Command: Command{Program: "ssh", ConfigFile: h.Path("ssh_config"), Host: "far", Options: []string{"LogLevel=DEBUG"}}})
	if v.Means != "" || heard.LetIn || heard.NearEnd != "" || heard.Failure != Unclear {
		t.Errorf("%+v, %+v", heard, v)
	}
}

// sendAway sends a message of leave (RFC 4253, 11.1).
func sendAway(c net.Conn, why string) { send(c, 1, "\x00\x00\x00\x0b", why, "") }

// send speaks SSH as far as its first message: number, head, and strings.
func send(c net.Conn, number byte, head string, strings ...string) {
	_, _ = io.WriteString(c, "SSH-2.0-Rude\r\n")
	message := append([]byte{number}, head...)
	for _, s := range strings {
		message = append(binary.BigEndian.AppendUint32(message, uint32(len(s))), s...)
	}
	padding := 4 + (8-(4+1+len(message)+4)%8)%8
	packet := binary.BigEndian.AppendUint32(nil, uint32(1+len(message)+padding))
	packet = append(append(append(packet, byte(padding)), message...), make([]byte, padding)...)
	_, _ = c.Write(packet)
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c) // a reset would be faster than the packet
}

// listenTo reads what a real ssh says until it ends, or a moment after it was let
// in: all that was heard, and what is known at the end.
func listenTo(t *testing.T, c *Client) (Heard, Verdict) {
	t.Helper()
	// Ours is for the logins at jump hosts, too, and the machine may be busy.
	c.Options = append(c.Options, "ConnectTimeout=60")
	argv := c.Argv()
	cmd := exec.Command(argv[0], argv[1:]...)
	stdout, stderr := new(testbed.Words), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	testbed.Eventually(t, "ssh ends, or is let in", func() bool { return len(ended) > 0 || stdout.Has("Authenticated to ") })
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-ended
	r, all := NewReader(c.Jumps), Heard{}
	take := func(line string, fromLog bool) {
		h := r.Read(strings.TrimSpace(line), fromLog)
		all.LetIn = all.LetIn || h.LetIn
		all.NearEnd += h.NearEnd
		if h.Why != "" {
			all.Why, all.Failure = h.Why, h.Failure
		}
	}
	for line := range strings.Lines(stderr.String()) {
		take(line, false)
	}
	for line := range strings.Lines(stdout.String()) {
		take(line, true)
	}
	return all, r.Verdict()
}
