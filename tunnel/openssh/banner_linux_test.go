package openssh

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// A real host whose banner has every line of the table, as ssh itself ends its
// lines. It is printed in the middle of the login, to ssh's standard error.
func TestABannerOfEveryFormDecidesNothing(t *testing.T) {
	banner := filepath.Join(testbed.PublicDir(t), "banner")
	var lines strings.Builder
	for _, f := range forms {
		lines.WriteString(example(f.line) + "\r\n")
	}
	testbed.Write(t, banner, lines.String())
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

// listenTo reads what a real ssh says until it ends, or a moment after it was let
// in: all that was heard, and what is known at the end.
func listenTo(t *testing.T, c *Client) (Heard, Verdict) {
	t.Helper()
	argv := c.Argv()
	cmd := exec.Command(argv[0], argv[1:]...)
	stdout, stderr := new(testbed.Words), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Signal(os.Interrupt) }) // if it is let in
	defer kill.Stop()
	_ = cmd.Wait()
	r, all := NewReader(func() bool { return false }), Heard{}
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
