package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAMailGoesThroughPort25 is the whole path as a user has it: sudo minimail
// start, a mail client that is pointed at localhost, minimail stop.
func TestAMailGoesThroughPort25(t *testing.T) {
	ownNetwork(t)
	h := newHost(t)
	mails := make(chan string, 10)
	far := mailServer(t, func(mail string) { mails <- mail })
	dir := publicDir(t)
	pidFile, logFile := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	near := freePort(t)

	start := exec.Command(program, "start", "--host", "far", "--ssh-config", h.path("ssh_config"),
		"--forward", fmt.Sprintf("25:%d:%s", near, far), "--protocol", "smtp", "--idle", "1", "--jitter", "0",
		"--settings", os.DevNull, "-p", pidFile, "-l", logFile)
	start.Env = append(os.Environ(), "SUDO_USER="+runAs)
	out, err := start.CombinedOutput()
	if err != nil {
		t.Fatalf("start: %v\n%s", err, out)
	}
	stop := func() string { return command(t, program, "stop", "-p", pidFile) }
	t.Cleanup(func() {
		if _, _, running, _ := held(pidFile); running {
			stop()
		}
		if t.Failed() {
			t.Logf("the log:\n%s", read(t, logFile))
		}
	})
	pid, err := strconv.Atoi(read(t, pidFile))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("minimail runs: pid %d, listening on 127.0.0.1:25 and [::1]:25, as user %s\n", pid, runAs)
	if string(out) != want {
		t.Errorf("start says %q, want %q", out, want)
	}
	isNobody(t, pid)
	m := &minimail{config: h.path("ssh_config")}
	if pids := m.ssh(); len(pids) > 0 {
		t.Errorf("ssh runs before there is mail: %v", pids)
	}

	clients := map[string][]string{
		"swaks": {"swaks", "--server", "localhost", "--from", "a@near.test", "--to", "b@far.test", "--body", "by swaks", "--silent", "2"},
		"msmtp": {"msmtp", "--file=/dev/null", "--host=localhost", "--port=25", "--from=a@near.test", "b@far.test"},
		"curl":  {"curl", "-sS", "smtp://localhost", "--mail-from", "a@near.test", "--mail-rcpt", "b@far.test", "--upload-file", "-"},
	}
	for name, argv := range clients {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader("Subject: test\r\n\r\nby " + name + "\r\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		select {
		case mail := <-mails:
			if !strings.Contains(mail, "by "+name) {
				t.Errorf("%s's mail arrived as %q", name, mail)
			}
		case <-time.After(patience):
			t.Errorf("%s's mail has not arrived", name)
		}
	}
	m.down(t) // the countdown's end
	eventually(t, "the end is in the log", func() bool { return strings.Contains(read(t, logFile), "the tunnel is closed") })

	log := read(t, logFile)
	for _, event := range []string{"dropped privileges", "listening", "launched ssh", "the tunnel answers", "client served",
		"countdown started", "killing ssh", "the tunnel is closed"} {
		if !strings.Contains(log, event) {
			t.Errorf("not in the log: %q", event)
		}
	}
	for _, secret := range []string{"by swaks", "near.test", "Subject"} {
		if strings.Contains(log, secret) {
			t.Errorf("%q of a mail is in the log", secret)
		}
	}
	stop()
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("the pid file is still there: %v", err)
	}
}

// ownNetwork moves the test, and what it starts and listens on, to a loopback
// of its own, where nobody else has port 25.
func ownNetwork(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread() // and never unlock it: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "link", "set", "lo", "up")
}

// isNobody reads the ids of all threads of pid back from the kernel.
func isNobody(t *testing.T, pid int) {
	t.Helper()
	uid := strconv.Itoa(uidOf(t, runAs))
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	for _, task := range tasks {
		for _, l := range strings.Split(read(t, task), "\n") {
			f := strings.Fields(l)
			if len(f) == 0 {
				continue
			}
			switch f[0] {
			case "Uid:", "Gid:": // nobody's group has the same number
				if got := strings.Join(f[1:], " "); got != strings.Join([]string{uid, uid, uid, uid}, " ") {
					t.Errorf("%s %s", f[0], got)
				}
			case "Groups:":
				if got := strings.Join(f[1:], " "); got != uid {
					t.Errorf("groups %q", got)
				}
			case "CapPrm:", "CapEff:", "CapAmb:":
				if f[1] != "0000000000000000" {
					t.Errorf("%s %s", f[0], f[1])
				}
			}
		}
	}
}

// TestBytesAreNotTouched sends binary data both ways at the same time.
func TestBytesAreNotTouched(t *testing.T) {
	h := newHost(t)
	blob := bytes.Repeat([]byte("\x00\r\n.\r\n\xff\x1b[31m\n"), 300_000)
	far := listen(t, echo)
	m := h.minimail(t, far, "--protocol", "tcp")
	c := m.dial(t)
	go func() {
		_, _ = c.Write(blob)
		_ = c.CloseWrite()
	}()
	var got bytes.Buffer
	if _, err := got.ReadFrom(c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), blob) {
		t.Errorf("%d bytes came back, and not those that were sent", got.Len())
	}
	if s := m.log.String(); strings.Contains(s, "\x1b[31m") {
		t.Error("a client's bytes are in the log")
	}
}

// TestACapabilityToBindIsGivenUpByAllThreads, as systemd gives it to a service
// with ports of its own. A program that is not static cannot, and says so.
func TestACapabilityToBindIsGivenUpByAllThreads(t *testing.T) {
	ownNetwork(t)
	needProgram(t, "setpriv")
	dir := publicDir(t)
	for cgo, want := range map[string]bool{"0": true, "1": false} {
		bin := filepath.Join(dir, "minimail"+cgo)
		build := exec.Command("go", append(append([]string{"build"}, coverFlags()...), "-o", bin, ".")...)
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Chmod(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		places := publicDir(t)
		if err := os.Chmod(places, 0o777); err != nil {
			t.Fatal(err)
		}
		m := exec.Command("setpriv", "--reuid="+runAs, "--regid="+strconv.Itoa(uidOf(t, runAs)), "--groups="+strconv.Itoa(uidOf(t, runAs)),
			"--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", bin, "-X", "--host", "far",
			"--forward", "25:1025:localhost:25", "--settings", os.DevNull, "--pid-file", filepath.Join(places, "pid"))
		said := new(words)
		m.Stderr = said
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it listens", func() bool { return strings.Count(said.String(), " listening ") == 2 })
		if warned := strings.Contains(said.String(), "keeping the capabilities"); warned == want {
			t.Errorf("CGO_ENABLED=%s: it says\n%s", cgo, said)
		}
		if want {
			isNobody(t, m.Process.Pid)
		}
		_ = m.Process.Signal(syscall.SIGTERM)
		if err := m.Wait(); err != nil {
			t.Errorf("CGO_ENABLED=%s: %v\n%s", cgo, err, said)
		}
	}
}
