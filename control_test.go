package main

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// status runs the word, and checks its exit status, which must be 0.
func (m *minimail) status(t *testing.T, as ...string) string {
	t.Helper()
	argv := append(as, program, "status", "--settings", "/dev/null", "-p", m.pid)
	return command(t, argv[0], argv[1:]...)
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
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--idle", "30", "--wait", "2s")
	wants(t, "at first", m.status(t), `^Running:     yes$`, `^Since:       .* \(\d+s\)$`, `^User:        nobody$`,
		`^Listening:   127\.0\.0\.1:\d+, \[::1\]:\d+$`, `^Tunnel:      down, to far$`, `^Clients:     0 now, 0 waiting; 0 served, 0 refused$`)
	m.greets(t)
	m.log.wait(t, "countdown started")
	wants(t, "after a client", m.status(t), `^Tunnel:      up, to far, ssh pid \d+ for \d+s, closes in \d+s$`,
		`^Clients:     0 now, 0 waiting; 1 served, 0 refused$`, `^Bytes:       0 up, 20 down$`)
	h.stop()
	m.refuses(t, "Connection refused")
	wants(t, "after a failure", m.status(t), `^Tunnel:      backing off, to far, for another \d+s: .*Connection refused$`,
		`1 refused$`, `^Last error:  \d+s ago: `)
	var answer struct {
		Running bool
		Report  report
	}
	if err := json.Unmarshal([]byte(command(t, program, "status", "--json", "--settings", "/dev/null", "-p", m.pid)), &answer); err != nil {
		t.Error(err)
	}
	if !answer.Running || answer.Report.Host != "far" || answer.Report.Clients.Served != 1 || answer.Report.Tunnel.State != "backing off" {
		t.Errorf("in JSON: %+v", answer)
	}
	wants(t, "as the user", m.status(t, "setpriv", "--reuid="+runAs, "--regid=nogroup", "--clear-groups"), `^Tunnel: `)
	wants(t, "as somebody else", m.status(t, "setpriv", "--reuid="+intruder, "--regid=nogroup", "--clear-groups"),
		`^Running:     yes$`, `^More:        ask as root`)
}

func TestStatusOfOneThatHangs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil))
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	wants(t, "stopped", m.status(t), `^Running:     yes$`, `^More:        not to be had: it has not answered within 2s$`)
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
	m.greets(t)
}

func TestTheControlSocketGoesWithItsOwner(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil))
	if !exists(controlSocket(m.pid)) {
		t.Fatal("there is none")
	}
	m.end(t, syscall.SIGKILL)
	m.cmd = exec.Command(m.cmd.Path, m.cmd.Args[1:]...)
	m.start(t) // is not in the way of the next one
	wants(t, "the next one", m.status(t), `^Tunnel: `)
	command(t, program, "stop", "--settings", "/dev/null", "-p", m.pid)
	if exists(controlSocket(m.pid)) {
		t.Error("it is still there")
	}
}
