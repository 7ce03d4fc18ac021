package system

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// managersSocket is what a service manager has bound.
func managersSocket(t *testing.T, at string, port int) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(at), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// activated is minimail as a service manager starts it that has bound its port.
func activated(t *testing.T, m *testbed.Minimail, l *net.TCPListener, env ...string) *exec.Cmd {
	t.Helper()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	testbed.GiveTo(t, filepath.Dir(m.Pid), testbed.RunAs) // as RuntimeDirectory= does
	cmd := exec.Command("setpriv", append([]string{"--reuid=" + testbed.RunAs, "--regid=nogroup", "--clear-groups",
		"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`}, m.Cmd.Args...)...)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(os.Environ(), env...)
	m.Log = new(testbed.Words)
	cmd.Stderr = m.Log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd
}

// TestAWrongSettingDoesNotCloseTheServiceManagersPort: clients are told the line,
// and when the file is mended the next client is left to the next start.
func TestAWrongSettingDoesNotCloseTheServiceManagersPort(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	file := filepath.Join(testbed.PublicDir(t), "settings")
	testbed.Write(t, file, "# mine\nMINIMAIL_IDLE=soon\n")
	m := h.Prepare(t, testbed.MailServer(t, nil), "--settings", file)
	i := slices.Index(m.Cmd.Args, "--idle")
	m.Cmd.Args = append(m.Cmd.Args[:i], m.Cmd.Args[i+2:]...)
	l := managersSocket(t, "127.0.0.1", m.Port)
	first := activated(t, m, l)
	m.Refuses(t, `MINIMAIL_IDLE in `+file+`, line 2.*"soon": expected a time`)
	wants(t, "status", statusOf(t, m), `^Running:     yes$`, `^Problem:     .*line 2`)
	testbed.Write(t, file, "MINIMAIL_IDLE=5s\n")
	queued := m.Dial(t)
	if err := first.Wait(); err != nil {
		t.Errorf("it ends with %v\n%s", err, m.Log)
	}
	activated(t, m, l)
	b := make([]byte, 4)
	if _, err := queued.Read(b); err != nil || string(b) != "220 " {
		t.Errorf("the client that was left in the queue got %q, %v\n%s", b, err, m.Log)
	}
	m.Greets(t)
}

// TestAnApologyEndsWhenToldToBesideAClientThatStays, and leaves no pid file.
func TestAnApologyEndsWhenToldToBesideAClientThatStays(t *testing.T) {
	t.Parallel()
	m := testbed.NewHost(t).Prepare(t, testbed.MailServer(t, nil), "--ssh", filepath.Join(testbed.PublicDir(t), "ssh"))
	cmd := activated(t, m, managersSocket(t, "127.0.0.1", m.Port))
	m.Refuses(t, "cannot run ssh: .*no such file")
	m.Dial(t)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v\n%s", err, m.Log)
	}
	if _, err := os.Stat(m.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its pid file: %v", err)
	}
}

// TestAnApologyIsHandedOver as soon as the settings are mended and reloaded.
func TestAnApologyIsHandedOver(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	ssh := filepath.Join(testbed.PublicDir(t), "ssh")
	m := h.Prepare(t, testbed.MailServer(t, nil), "--ssh", ssh)
	l := managersSocket(t, "127.0.0.1", m.Port)
	manager, said := notified(t)
	cmd := activated(t, m, l, "NOTIFY_SOCKET="+manager)
	said.Wait(t, "READY=1(.|\n)*STATUS=cannot serve: cannot run ssh")
	m.Refuses(t, "cannot run ssh: .*no such file")
	if err := os.Symlink("/usr/bin/ssh", ssh); err != nil {
		t.Fatal(err)
	}
	out, err := reloadAs(cmd.Process.Pid, m)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(testbed.Program, "stop", "--settings", "/dev/null", "-p", m.Pid).Run() })
	m.Greets(t)
	said.Wait(t, "MAINPID="+strings.TrimSpace(testbed.Read(t, m.Pid)))
	m.Log.Wait(t, "another minimail|client served") // where the one before has logged
}

func TestTheServiceManagerIsToldHowTheTunnelIs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	manager, said := notified(t)
	m.Cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+manager)
	m.Start(t)
	said.Wait(t, "READY=1")
	m.Greets(t)
	said.Wait(t, "STATUS=tunnel up; clients: 1\n(.|\n)*STATUS=tunnel up; closes in [0-3]s if nobody comes\n(.|\n)*STATUS=tunnel down\n")
}

// reloadAs is what a unit's ExecReload= does.
func reloadAs(pid int, m *testbed.Minimail) (string, error) {
	cmd := exec.Command("setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups",
		testbed.Program, "reload", "--settings", "/dev/null", "-p", m.Pid)
	cmd.Env = append(os.Environ(), "MAINPID="+strconv.Itoa(pid))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// notified is a service manager's socket, and what it has heard.
func notified(t *testing.T) (name string, said *testbed.Words) {
	t.Helper()
	name = filepath.Join(testbed.PublicDir(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o777); err != nil {
		t.Fatal(err)
	}
	said = new(testbed.Words)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			_, _ = said.Write(append(b[:n:n], '\n'))
		}
	}()
	t.Cleanup(func() { c.Close() })
	return name, said
}

// TestAStopLeavesTheServiceManagersQueue to the next start: nobody is turned away,
// as in systemctl restart.
func TestAStopLeavesTheServiceManagersQueue(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "60s", "--drain", "60s", many)
	l := managersSocket(t, "127.0.0.1", m.Port)
	first := activated(t, m, l)
	finish := atWork(t, m)
	came := comes(m)
	log := m.Log
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	log.Wait(t, "stopping; clients at work may finish")
	finish()
	if err := first.Wait(); err != nil {
		t.Errorf("it ends with %v\n%s", err, log)
	}
	activated(t, m, l)
	came.leaves(t)
}

// TestAnOpenRelayOfTheServiceManagersIsSaid: ListenStream=25 is all addresses.
func TestAnOpenRelayOfTheServiceManagersIsSaid(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	for at, open := range map[string]bool{"0.0.0.0": true, "127.0.0.1": false} {
		m := h.Prepare(t, testbed.MailServer(t, nil))
		l := managersSocket(t, at, m.Port)
		manager, said := notified(t)
		activated(t, m, l, "NOTIFY_SOCKET="+manager)
		said.Wait(t, "READY=1")
		m.Log.Wait(t, "listening at="+at)
		m.Greets(t) // what is said before the first client has been said
		m.Log.Wait(t, "the tunnel answers")
		if got := m.Log.Has(fmt.Sprintf("anybody who reaches 0.0.0.0, port %d, can send mail through far as you: an open relay", m.Port)); got != open {
			t.Errorf("at %s, said: %v\n%s", at, got, m.Log)
		}
	}
}

// TestAStopDuringAHandoverTurnsNobodyAway: those who waited are passed on to one
// that is told to stop at once. They are served all the same, for they would be
// if it had not been started yet.
func TestAStopDuringAHandoverTurnsNobodyAway(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	dir := testbed.PublicDir(t)
	ssh, login := filepath.Join(dir, "ssh"), filepath.Join(dir, "login")
	testbed.Write(t, ssh, `#!/bin/sh
case $* in *-N*-L*) while [ ! -e `+login+` ]; do sleep 0.02; done ;; esac
exec ssh "$@"`)
	testbed.Run(t, "chmod", "755", ssh)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--ssh", ssh, "--wait", "60s", "--drain", "60s")
	l := managersSocket(t, "127.0.0.1", m.Port)
	manager, said := notified(t)
	cmd := activated(t, m, l, "NOTIFY_SOCKET="+manager)
	said.Wait(t, "READY=1")
	const n = 200
	var waiting []net.Conn
	for range n {
		waiting = append(waiting, m.Dial(t))
	}
	testbed.Eventually(t, "all of them wait", func() bool { return strings.Contains(statusOf(t, m), "200 waiting") })
	if out, err := reloadAs(cmd.Process.Pid, m); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := syscall.Kill(pidOf(t, m), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testbed.Write(t, login, "")
	for i, c := range waiting {
		b := make([]byte, 4)
		if _, err := c.Read(b); err != nil || string(b) != "220 " {
			t.Fatalf("client %d got %q, %v\n%s", i, b, err, m.Log)
		}
	}
}
