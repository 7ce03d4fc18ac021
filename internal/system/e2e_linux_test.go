package system

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// TestAMailGoesThroughPort25 is the whole path as a user has it: sudo minimail
// start, a mail client that is pointed at localhost, minimail stop.
func TestAMailGoesThroughPort25(t *testing.T) {
	testbed.OwnNetwork(t)
	h := testbed.NewHost(t)
	mails := make(chan string, 10)
	far := testbed.MailServer(t, func(mail string) { mails <- mail })
	dir := testbed.PublicDir(t)
	pidFile, logFile := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	near := testbed.FreePort(t)

	start := exec.Command(testbed.Program, "start", "--host", "far", "--ssh-config", h.Path("ssh_config"),
		"--forward", fmt.Sprintf("25:%d:%s", near, far), "--protocol", "smtp", "--idle", "1", "--jitter", "0",
		"--settings", os.DevNull, "-p", pidFile, "-l", logFile)
	start.Env = append(os.Environ(), "SUDO_USER="+testbed.RunAs)
	out, err := start.CombinedOutput()
	if err != nil {
		t.Fatalf("start: %v\n%s", err, out)
	}
	stop := func() string { return testbed.Run(t, testbed.Program, "stop", "-p", pidFile) }
	t.Cleanup(func() {
		if testbed.Exists(pidFile) {
			stop()
		}
		if t.Failed() {
			t.Logf("the log:\n%s", testbed.Read(t, logFile))
		}
	})
	pid, err := strconv.Atoi(testbed.Read(t, pidFile))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("minimail runs: pid %d, listening on 127.0.0.1:25 and [::1]:25, as user %s\n", pid, testbed.RunAs)
	if got := slowStart.ReplaceAllString(string(out), ""); got != want {
		t.Errorf("start says %q, want %q", got, want)
	}
	testbed.IsNobody(t, pid)
	m := &testbed.Minimail{Config: h.Path("ssh_config")}
	if pids := m.SSH(); len(pids) > 0 {
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
		case <-time.After(testbed.Patience):
			t.Errorf("%s's mail has not arrived", name)
		}
	}
	m.Down(t) // the countdown's end
	testbed.Eventually(t, "the end is in the log", func() bool { return strings.Contains(testbed.Read(t, logFile), "the tunnel is closed") })

	log := testbed.Read(t, logFile)
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

// TestBytesAreNotTouched sends binary data both ways at the same time.
func TestBytesAreNotTouched(t *testing.T) {
	h := testbed.NewHost(t)
	blob := bytes.Repeat([]byte("\x00\r\n.\r\n\xff\x1b[31m\n"), 300_000)
	far := testbed.Listen(t, testbed.Echo)
	m := h.Minimail(t, far, "--protocol", "tcp")
	c := m.Dial(t)
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
	if s := m.Log.String(); strings.Contains(s, "\x1b[31m") {
		t.Error("a client's bytes are in the log")
	}
}

// TestACapabilityToBindIsGivenUpByAllThreads, as systemd gives it to a service
// with ports of its own. A program that is not static cannot, and says so.
func TestACapabilityToBindIsGivenUpByAllThreads(t *testing.T) {
	testbed.OwnNetwork(t)
	testbed.NeedProgram(t, "setpriv")
	dir := testbed.PublicDir(t)
	for cgo, want := range map[string]bool{"0": true, "1": false} {
		bin := filepath.Join(dir, "minimail"+cgo)
		build := exec.Command("go", append(append([]string{"build"}, testbed.CoverFlags()...), "-o", bin, ".")...)
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Chmod(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		places := testbed.PublicDir(t)
		testbed.GiveTo(t, places, testbed.RunAs)
		m := exec.Command("setpriv", "--reuid="+testbed.RunAs, "--regid="+strconv.Itoa(testbed.UidOf(t, testbed.RunAs)), "--groups="+strconv.Itoa(testbed.UidOf(t, testbed.RunAs)),
			"--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", bin, "-X", "--host", "far",
			"--forward", "25:1025:localhost:25", "--settings", os.DevNull, "--pid-file", filepath.Join(places, "pid"))
		said := new(testbed.Words)
		m.Stderr = said
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, "it listens", func() bool { return strings.Count(said.String(), " listening ") == 2 })
		if warned := strings.Contains(said.String(), "keeping the capabilities"); warned == want {
			t.Errorf("CGO_ENABLED=%s: it says\n%s", cgo, said)
		}
		if want {
			testbed.IsNobody(t, m.Process.Pid)
		}
		_ = m.Process.Signal(syscall.SIGTERM)
		if err := m.Wait(); err != nil {
			t.Errorf("CGO_ENABLED=%s: %v\n%s", cgo, err, said)
		}
	}
}
