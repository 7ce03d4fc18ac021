package system

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
)

// The faults of the machine around minimail. docs/FAULTS.md is their table.

// daemonize turns a prepared minimail into its daemon: started, with a log
// file, and stopped when the test ends.
func daemonize(t *testing.T, m *testbed.Minimail, logFile string) {
	t.Helper()
	args := append([]string{"start"}, m.Cmd.Args[2:]...) // without -X
	testbed.Run(t, testbed.Program, append(args, "-l", logFile)...)
	t.Cleanup(func() {
		_ = exec.Command(testbed.Program, "stop", "-p", m.Pid).Run()
		m.NobodyLeft(t)
	})
}

func TestFault31DiskIsFull(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	daemonize(t, m, "/dev/full")
	m.Greets(t)
	m.Down(t)
	m.Greets(t)
}

func TestFault31WhoReadsTheLogHasLeft(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	log, err := m.Cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Cmd.Process.Signal(syscall.SIGTERM)
		_ = m.Cmd.Wait()
		m.NobodyLeft(t)
	})
	for lines := bufio.NewScanner(log); !strings.Contains(lines.Text(), "listening") && lines.Scan(); {
	}
	log.Close()
	m.Greets(t)
	m.Down(t)
	m.Greets(t)
}

func TestFault32LogIsMovedAway(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	dir := testbed.PublicDir(t)
	testbed.GiveTo(t, dir, testbed.RunAs)
	logFile := filepath.Join(dir, "log")
	daemonize(t, m, logFile)
	m.Greets(t)
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(testbed.Read(t, m.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGHUP)
	testbed.Eventually(t, "there is a new log", func() bool { return testbed.Exists(logFile) && testbed.Read(t, logFile) != "" })
	m.Greets(t)
	testbed.Eventually(t, "both logs together have both clients", func() bool {
		return strings.Count(testbed.Read(t, logFile+".1"), "client served")+strings.Count(testbed.Read(t, logFile), "client served") == 2
	})
	for _, line := range []string{"HUP: log reopened, back-off forgotten", "client served"} {
		if !strings.Contains(testbed.Read(t, logFile), line) {
			t.Errorf("the new log does not have %q", line)
		}
	}
}

func TestFault32LogMayNotBeMadeAnew(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	logFile := filepath.Join(testbed.PublicDir(t), "log") // root's directory
	daemonize(t, m, logFile)
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(testbed.Read(t, m.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGHUP)
	testbed.Eventually(t, "the old log says why there is no new one", func() bool {
		return strings.Contains(testbed.Read(t, logFile+".1"), "still writing to the old log")
	})
	m.Greets(t)
}

func TestFault35HostBeginsWithADash(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	out, err := exec.Command(testbed.Program, "-X", "--settings", os.DevNull, "--host", "-oProxyCommand=touch "+mark).CombinedOutput()
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), `a host cannot begin with "-"`) {
		t.Errorf("%v, %q", err, out)
	}
	// Even if it came that far, ssh would not take it for an option.
	argv := (&openssh.Client{Command: openssh.Command{Program: "ssh", Host: "-oProxyCommand=touch " + mark}}).Argv()
	_ = exec.Command(argv[0], argv[1:]...).Run()
	if testbed.Exists(mark) {
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
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	logFile := filepath.Join(testbed.PublicDir(t), "log")
	args := append([]string{"-c", `exec "$0" "$@" <&- >&- 2>&-`, testbed.Program, "start", "-l", logFile}, m.Cmd.Args[2:]...)
	testbed.Run(t, "sh", args...)
	t.Cleanup(func() {
		testbed.Run(t, testbed.Program, "stop", "-p", m.Pid)
		m.NobodyLeft(t)
	})
	m.Greets(t)
	testbed.Eventually(t, "the client is in the log", func() bool { return strings.Contains(testbed.Read(t, logFile), "client served") })
	if got := testbed.Read(t, logFile); strings.Contains(got, "220 far") {
		t.Errorf("what a client reads is in the log: %q", got)
	}
}

// While the machine sleeps, nobody runs; afterwards the host has dropped us.
func TestFault37Suspend(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--idle", "1h")
	m.Greets(t)
	ssh := m.TheSSH(t)
	for _, pid := range []int{m.Cmd.Process.Pid, ssh} {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	h.Stop()
	h.Start(t)
	c := m.Dial(t) // is in the queue until the machine wakes up
	for _, pid := range []int{ssh, m.Cmd.Process.Pid} {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	if got := testbed.ReadLine(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
		t.Errorf("the client got %q", got)
	}
}

// The machine has booted, its network has not.
func TestFault38BootWithoutNetwork(t *testing.T) {
	testbed.NeedRoot(t)
	n := newNamespaces(t)
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	// sshd is on this side of the cable; ssh's end of it is not plugged in yet.
	testbed.Write(t, h.Path("sshd_config"), strings.Replace(testbed.Read(t, h.Path("sshd_config")), "ListenAddress 127.0.0.1", "ListenAddress "+n.outside, 1))
	h.Configure(t, "HostName "+n.outside, "HostKeyAlias far")
	testbed.Write(t, h.Path("known_hosts"), "far "+strings.Join(strings.Fields(testbed.Read(t, h.Path("hostkey.pub")))[:2], " ")+"\n")
	h.Stop()
	m := h.Prepare(t, far, "--wait", "2m")
	m.Cmd = exec.Command("ip", append([]string{"netns", "exec", n.name, testbed.Program}, m.Cmd.Args[1:]...)...)
	m.Start(t)
	client := exec.Command("ip", "netns", "exec", n.name, "nc", "-N", "127.0.0.1", strconv.Itoa(m.Port))
	client.Stdin = strings.NewReader("QUIT\r\n")
	said := new(testbed.Words)
	client.Stdout = said
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	m.Log.Wait(t, "Network is unreachable")
	n.plugIn(t)
	h.StartAt(t, n.outside)
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
	testbed.Run(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { testbed.Run(t, "ip", "netns", "delete", n.name) })
	testbed.Run(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	testbed.Run(t, "ip", "link", "add", n.cable, "type", "veth", "peer", "name", "eth0", "netns", n.name)
	t.Cleanup(func() { testbed.Run(t, "ip", "link", "delete", n.cable) }) // else it goes some time after the namespace
	return n
}

func (n *namespaces) plugIn(t *testing.T) {
	t.Helper()
	testbed.Run(t, "ip", "address", "add", n.outside+"/30", "dev", n.cable)
	testbed.Run(t, "ip", "link", "set", n.cable, "up")
	testbed.Run(t, "ip", "-n", n.name, "address", "add", n.inside+"/30", "dev", "eth0")
	testbed.Run(t, "ip", "-n", n.name, "link", "set", "eth0", "up")
}

func TestFault39NoIPv6(t *testing.T) {
	testbed.NeedRoot(t)
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	n := newNamespaces(t)
	testbed.Run(t, "ip", "netns", "exec", n.name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")
	testbed.Write(t, h.Path("sshd_config"), strings.Replace(testbed.Read(t, h.Path("sshd_config")), "ListenAddress 127.0.0.1", "ListenAddress "+n.outside, 1))
	h.Configure(t, "HostName "+n.outside, "HostKeyAlias far")
	testbed.Write(t, h.Path("known_hosts"), "far "+strings.Join(strings.Fields(testbed.Read(t, h.Path("hostkey.pub")))[:2], " ")+"\n")
	h.Stop()
	n.plugIn(t)
	h.StartAt(t, n.outside)
	m := h.Prepare(t, far)
	m.Cmd = exec.Command("ip", append([]string{"netns", "exec", n.name, testbed.Program}, m.Cmd.Args[1:]...)...)
	m.Start(t)
	if m.Log.Has(`listening at=\[::1\]`) {
		t.Error("it listens on ::1, which is not there")
	}
	out := testbed.Run(t, "ip", "netns", "exec", n.name, "sh", "-c", `printf 'QUIT\r\n' | nc -N 127.0.0.1 `+strconv.Itoa(m.Port))
	if !strings.HasPrefix(out, "220 ") {
		t.Errorf("a client got %q", out)
	}
}

func TestFault40SSHTalksTooMuch(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	ssh := testbed.Script(t, `[ "$1" = -V ] && exec ssh -V
head -c 3000000 /dev/zero | tr '\0' x >&2
printf '\033[31m\r\007\nred\033]0;title\007\n' >&2
yes 'one more line' | head -n 20000 >&2
exec ssh "$@"
`)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--ssh", ssh)
	m.Greets(t)
	m.Down(t)
	m.Log.Wait(t, "ssh said more than is logged.*lines=\\d+")
	log := m.Log.String()
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
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	testbed.Write(t, h.Path("key.pub"), fmt.Sprintf(`restrict,port-forwarding,permitopen="%s",permitlisten="localhost:1",command="/bin/false" %s`, far, testbed.Read(t, h.Path("key.pub"))))
	m := h.Minimail(t, far)
	m.Greets(t)
	m.Down(t)
	elsewhere := h.Minimail(t, testbed.Listen(t, testbed.Echo), "--wait", "1s")
	elsewhere.Refuses(t, "administratively prohibited")
}
