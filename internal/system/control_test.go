package system

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// status runs the word, and checks its exit status, which must be 0.
func statusOf(t *testing.T, m *testbed.Minimail, as ...string) string {
	t.Helper()
	argv := append(as, testbed.Program, "status", "--settings", "/dev/null", "-p", m.Pid)
	return testbed.Run(t, argv[0], argv[1:]...)
}

func wants(t *testing.T, what, got string, res ...string) {
	t.Helper()
	for _, re := range res {
		if !regexp.MustCompile("(?m)" + re).MatchString(got) {
			t.Errorf("%s: no match for %q in:\n%s", what, re, got)
		}
	}
}

func TestStatusTellsHowItIs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--idle", "30", "--wait", "6s")
	wants(t, "at first", statusOf(t, m), `^Running:     yes$`, `^Since:       .* \(\d+s\)$`, `^User:        nobody$`,
		`^Listening:   127\.0\.0\.1:\d+, \[::1\]:\d+ \(smtp\)$`, `^Log:         on the stderr`, `^Tunnel:      down, to far$`, `^Clients:     0 now, 0 waiting; 0 served, 0 refused$`)
	m.Serves(t)
	m.Log.Wait(t, "countdown started")
	m.Log.Wait(t, "client served")
	wants(t, "after a client", statusOf(t, m), `^Tunnel:      up, to far, ssh pid \d+ for \d+s, closes in \d+s$`,
		`^Clients:     0 now, 0 waiting; 1 served, \d+ refused$`, `^Bytes:       0 up, 20 down$`)
	h.Stop()
	m.ComesToRefuse(t, "Connection refused")
	wants(t, "after a failure", statusOf(t, m), `[1-9]\d* refused$`, `^Refused:     \d+s ago: .*Connection refused`, `^Last error:  \d+s ago: `)
	m.Dial(t) // for as long as somebody waits, ssh is tried again and again
	testbed.Eventually(t, "its back-off is told", func() bool {
		return regexp.MustCompile(`(?m)^Tunnel:      backing off, to far, for another \d+s: .*Connection refused$`).MatchString(statusOf(t, m))
	})
	var answer struct {
		Running bool
		Report  struct {
			Host    string
			Clients struct{ Served int }
			Tunnel  struct{ State string }
		}
	}
	out := []byte(testbed.Run(t, testbed.Program, "status", "--json", "--settings", "/dev/null", "-p", m.Pid))
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Error(err)
	}
	var names map[string]any // Unmarshal does not mind capitals, jq does
	if err := json.Unmarshal(out, &names); err != nil || names["report"] == nil {
		t.Errorf("no \"report\" in %s (%v)", out, err)
	}
	if !answer.Running || answer.Report.Host != "far" || answer.Report.Clients.Served != 1 || !slices.Contains([]string{"backing off", "starting"}, answer.Report.Tunnel.State) {
		t.Errorf("in JSON: %+v", answer)
	}
	wants(t, "as the user", statusOf(t, m, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups"), `^Tunnel: `)
	wants(t, "as somebody else", statusOf(t, m, "setpriv", "--reuid="+testbed.Intruder, "--regid=nogroup", "--clear-groups"),
		`^Running:     yes$`, `^More:        ask as root`)
}

func TestStatusOfOneThatHangs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil))
	_ = m.Cmd.Process.Signal(syscall.SIGSTOP)
	wants(t, "stopped", statusOf(t, m), `^Running:     yes$`, `^More:        not to be had: it has not answered within 5s$`)
	wants(t, "stopped, in JSON", testbed.Run(t, testbed.Program, "status", "--json", "--settings", "/dev/null", "-p", m.Pid),
		`"running": ?true`, `"error": ?"it has not answered within 5s"`)
	_ = m.Cmd.Process.Signal(syscall.SIGCONT)
	m.Greets(t)
}

func TestTheControlSocketGoesWithItsOwner(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil))
	socket := strings.TrimSuffix(m.Pid, ".pid") + ".sock"
	if !testbed.Exists(socket) {
		t.Fatal("there is none")
	}
	m.End(t, syscall.SIGKILL)
	m.Cmd = exec.Command(m.Cmd.Path, m.Cmd.Args[1:]...)
	m.Start(t) // is not in the way of the next one
	wants(t, "the next one", statusOf(t, m), `^Tunnel: `)
	testbed.Run(t, testbed.Program, "stop", "--settings", "/dev/null", "-p", m.Pid)
	if testbed.Exists(socket) {
		t.Error("it is still there")
	}
}
