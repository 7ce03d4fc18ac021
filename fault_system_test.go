package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minimail/tunnel/openssh"
)

// The faults of the machine around minimail. docs/FAULTS.md is their table.

// daemonize turns a prepared minimail into its daemon: started, with a log
// file, and stopped when the test ends.
func (m *minimail) daemonize(t *testing.T, logFile string) {
	t.Helper()
	args := append([]string{"start"}, m.cmd.Args[2:]...) // without -X
	command(t, program, append(args, "-l", logFile)...)
	t.Cleanup(func() {
		_ = exec.Command(program, "stop", "-p", m.pid).Run()
		m.nobodyLeft(t)
	})
}

func TestFault31DiskIsFull(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	m.daemonize(t, "/dev/full")
	m.greets(t)
	m.down(t)
	m.greets(t)
}

func TestFault32LogIsMovedAway(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	dir := publicDir(t)
	giveTo(t, dir, runAs)
	logFile := filepath.Join(dir, "log")
	m.daemonize(t, logFile)
	m.greets(t)
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(read(t, m.pid))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGHUP)
	eventually(t, "there is a new log", func() bool { return exists(logFile) && read(t, logFile) != "" })
	m.greets(t)
	eventually(t, "both logs together have both clients", func() bool {
		return strings.Count(read(t, logFile+".1"), "client served")+strings.Count(read(t, logFile), "client served") == 2
	})
	if !strings.Contains(read(t, logFile), "client served") {
		t.Error("the new log does not have the second client")
	}
}

func TestFault32LogMayNotBeMadeAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	logFile := filepath.Join(publicDir(t), "log") // root's directory
	m.daemonize(t, logFile)
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(read(t, m.pid))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGHUP)
	eventually(t, "the old log says why there is no new one", func() bool {
		return strings.Contains(read(t, logFile+".1"), "still writing to the old log")
	})
	m.greets(t)
}

func TestFault35HostBeginsWithADash(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	out, err := exec.Command(program, "-X", "--settings", os.DevNull, "--host", "-oProxyCommand=touch "+mark).CombinedOutput()
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(string(out), `a host cannot begin with "-"`) {
		t.Errorf("%v, %q", err, out)
	}
	// Even if it came that far, ssh would not take it for an option.
	argv := (openssh.Command{Program: "ssh", Host: "-oProxyCommand=touch " + mark}).Argv(openssh.Version{})
	_ = exec.Command(argv[0], argv[1:]...).Run()
	if exists(mark) {
		t.Error("the host was an option")
	}
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

func TestFault36StandardFilesAreClosed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	logFile := filepath.Join(publicDir(t), "log")
	args := append([]string{"-c", `exec "$0" "$@" <&- >&- 2>&-`, program, "start", "-l", logFile}, m.cmd.Args[2:]...)
	command(t, "sh", args...)
	t.Cleanup(func() {
		command(t, program, "stop", "-p", m.pid)
		m.nobodyLeft(t)
	})
	m.greets(t)
	eventually(t, "the client is in the log", func() bool { return strings.Contains(read(t, logFile), "client served") })
	if got := read(t, logFile); strings.Contains(got, "220 far") {
		t.Errorf("what a client reads is in the log: %q", got)
	}
}

// While the machine sleeps, nobody runs; afterwards the host has dropped us.
func TestFault37Suspend(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--idle", "1h", "--wait", "10s")
	m.greets(t)
	ssh := m.theSSH(t)
	for _, pid := range []int{m.cmd.Process.Pid, ssh} {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	h.stop()
	h.start(t)
	c := m.dial(t) // is in the queue until the machine wakes up
	for _, pid := range []int{ssh, m.cmd.Process.Pid} {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	if got := line(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
		t.Errorf("the client got %q", got)
	}
}

// The machine has booted, its network has not.
func TestFault38BootWithoutNetwork(t *testing.T) {
	needRoot(t)
	n := newNamespaces(t)
	h := newHost(t)
	far := mailServer(t, nil)
	// sshd is on this side of the cable; ssh's end of it is not plugged in yet.
	write(t, h.path("sshd_config"), strings.Replace(read(t, h.path("sshd_config")), "ListenAddress 127.0.0.1", "ListenAddress "+n.outside, 1))
	h.configure(t, "HostName "+n.outside, "HostKeyAlias far")
	write(t, h.path("known_hosts"), "far "+strings.Join(strings.Fields(read(t, h.path("hostkey.pub")))[:2], " ")+"\n")
	h.stop()
	m := h.prepare(t, far, "--protocol", "smtp")
	m.cmd = exec.Command("ip", append([]string{"netns", "exec", n.name, program}, m.cmd.Args[1:]...)...)
	m.start(t)
	client := exec.Command("ip", "netns", "exec", n.name, "nc", "-N", "127.0.0.1", strconv.Itoa(m.port))
	client.Stdin = strings.NewReader("QUIT\r\n")
	said := new(words)
	client.Stdout = said
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	m.log.wait(t, "Network is unreachable")
	n.plugIn(t)
	h.startAt(t, n.outside)
	if err := client.Wait(); err != nil || !strings.HasPrefix(said.String(), "220 ") {
		t.Errorf("the first mail client got %q, %v", said, err)
	}
}

// namespaces is a machine inside that has only its loopback, and a cable to
// this one.
type namespaces struct{ name, outside, inside, cable string }

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	id := fmt.Sprintf("mm%d", os.Getpid()%100000)
	n := &namespaces{name: id, outside: "10.98.76.1", inside: "10.98.76.2", cable: id + "c"}
	command(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { command(t, "ip", "netns", "delete", n.name) })
	command(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	command(t, "ip", "link", "add", n.cable, "type", "veth", "peer", "name", "eth0", "netns", n.name)
	return n
}

func (n *namespaces) plugIn(t *testing.T) {
	t.Helper()
	command(t, "ip", "address", "add", n.outside+"/30", "dev", n.cable)
	command(t, "ip", "link", "set", n.cable, "up")
	command(t, "ip", "-n", n.name, "address", "add", n.inside+"/30", "dev", "eth0")
	command(t, "ip", "-n", n.name, "link", "set", "eth0", "up")
}

func TestFault39NoIPv6(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	far := mailServer(t, nil)
	n := newNamespaces(t)
	command(t, "ip", "netns", "exec", n.name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")
	write(t, h.path("sshd_config"), strings.Replace(read(t, h.path("sshd_config")), "ListenAddress 127.0.0.1", "ListenAddress "+n.outside, 1))
	h.configure(t, "HostName "+n.outside, "HostKeyAlias far")
	write(t, h.path("known_hosts"), "far "+strings.Join(strings.Fields(read(t, h.path("hostkey.pub")))[:2], " ")+"\n")
	h.stop()
	n.plugIn(t)
	h.startAt(t, n.outside)
	m := h.prepare(t, far)
	m.cmd = exec.Command("ip", append([]string{"netns", "exec", n.name, program}, m.cmd.Args[1:]...)...)
	m.start(t)
	if m.log.has(`listening at=\[::1\]`) {
		t.Error("it listens on ::1, which is not there")
	}
	out := command(t, "ip", "netns", "exec", n.name, "sh", "-c", `printf 'QUIT\r\n' | nc -N 127.0.0.1 `+strconv.Itoa(m.port))
	if !strings.HasPrefix(out, "220 ") {
		t.Errorf("a client got %q", out)
	}
}

func TestFault40SSHTalksTooMuch(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ssh := filepath.Join(publicDir(t), "ssh")
	write(t, ssh, `#!/bin/sh
[ "$1" = -V ] && exec ssh -V
head -c 3000000 /dev/zero | tr '\0' x >&2
printf '\033[31m\r\007\nred\033]0;title\007\n' >&2
yes 'one more line' | head -n 100000 >&2
exec ssh "$@"
`)
	if err := os.Chmod(ssh, 0o755); err != nil {
		t.Fatal(err)
	}
	m := h.minimail(t, mailServer(t, nil), "--ssh", ssh)
	m.greets(t)
	m.down(t)
	m.log.wait(t, "ssh said more than is logged.*lines=\\d+")
	log := m.log.String()
	if len(log) > 100_000 {
		t.Errorf("%d bytes of log", len(log))
	}
	if strings.ContainsAny(log, "\x1b\x07\r") {
		t.Error("there are control characters in the log")
	}
	if !strings.Contains(log, "red") {
		t.Error("the words between control characters are not in the log")
	}
}

// TestAConfinedKeySuffices: docs/SECURITY.md tells how to confine the key.
func TestAConfinedKeySuffices(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := mailServer(t, nil)
	write(t, h.path("key.pub"), fmt.Sprintf(`restrict,port-forwarding,permitopen="%s",permitlisten="localhost:1",command="/bin/false" %s`, far, read(t, h.path("key.pub"))))
	m := h.minimail(t, far)
	m.greets(t)
	m.down(t)
	elsewhere := h.minimail(t, listen(t, echo), "--wait", "1s")
	elsewhere.refuses(t, "administratively prohibited")
}

// TestAnIntruderNeverReadsAByte: another user races ssh for the near end, again
// and again, with all that the socket options give.
func TestAnIntruderNeverReadsAByte(t *testing.T) {
	h := newHost(t)
	// The fake logs in at once, so there are enough rounds.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ssh := filepath.Join(publicDir(t), "ssh")
	command(t, "cp", self, ssh)
	m := h.prepare(t, mailServer(t, nil), "--ssh", ssh, "--wait", "150ms")
	m.cmd.Env = append(os.Environ(), "TEST_ROLE=ssh")
	s := intrude(t, m.near, []string{"127.0.0.1", "::1"})
	s.cmd.Env = append(os.Environ(), "TEST_ROLE=racer")
	s.start(t)
	m.start(t)
	served := 0
	for range 200 {
		c := m.dial(t)
		_, _ = io.WriteString(c, "EHLO secret.test\r\n")
		_ = c.SetReadDeadline(time.Now().Add(4 * time.Second))
		got, _ := bufio.NewReader(c).ReadString('\n')
		if strings.HasPrefix(got, "220 spy") {
			t.Fatal("a client has talked to the intruder")
		}
		if strings.HasPrefix(got, "220 ") {
			served++
		}
		c.Close()
		m.down(t)
		_ = m.cmd.Process.Signal(syscall.SIGHUP) // no back-off: the race is the point
	}
	if got := s.stop(); got != "" {
		t.Errorf("the intruder has read %q", got)
	}
	m.log.wait(t, fmt.Sprintf(`is held by uid %d`, uidOf(t, intruder)))
	t.Logf("%d of 200 clients were served all the same", served)
}

func init() { roles["racer"] = race }

// race takes the near end whenever it can be had, and lets it go again.
func race(args []string) int {
	fmt.Fprintln(os.Stderr, "listening")
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
	for i := 0; ; i++ {
		host := args[1+i%len(args[1:])]
		l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, args[0]))
		if err != nil {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(2 * time.Millisecond))
		if c, err := l.Accept(); err == nil {
			_ = c.SetDeadline(time.Now().Add(2 * time.Millisecond))
			_, _ = io.WriteString(c, "220 spy\r\n")
			_, _ = io.Copy(os.Stdout, c)
			c.Close()
		}
		l.Close()
		time.Sleep(time.Duration(i%5) * time.Millisecond) // let ssh win sometimes
	}
}
