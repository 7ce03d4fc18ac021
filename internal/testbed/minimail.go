package testbed

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Minimail is one that runs in the foreground.
type Minimail struct {
	Cmd    *exec.Cmd
	Port   int // where its clients go
	Near   int
	Log    *Words
	Config string
	Pid    string
	exited chan struct{}
}

// Minimail starts one in front of far, a HOST:PORT that h can reach, as root
// who becomes runAs. Later options win.
func (h *Host) Minimail(t testing.TB, far string, options ...string) *Minimail {
	t.Helper()
	m := h.Prepare(t, far, options...)
	m.Start(t)
	return m
}

func (h *Host) Prepare(t testing.TB, far string, options ...string) *Minimail {
	t.Helper()
	m := &Minimail{Port: FreePort(t), Near: FreePort(t), Config: h.Path("ssh_config"), Pid: filepath.Join(PublicDir(t), "pid")}
	m.Cmd = exec.Command(Program, append([]string{"-X", "--host", "far", "--ssh-config", m.Config,
		"--forward", fmt.Sprintf("%d:%d:%s", m.Port, m.Near, far), "--protocol", "smtp",
		"--settings", os.DevNull, "--pid-file", m.Pid, "--user", RunAs, "--idle", "0", "--jitter", "0"}, options...)...)
	return m
}

// Start runs m until the test ends, or stop or kill is called. At its end no
// SSH of its may be left.
func (m *Minimail) Start(t testing.TB) {
	t.Helper()
	m.Log = new(Words)
	m.Cmd.Stderr = m.Log
	if err := m.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.exited = make(chan struct{})
	go func() {
		_ = m.Cmd.Wait()
		close(m.exited)
	}()
	sockets := 0
	t.Cleanup(func() {
		if !isDone(m.exited) {
			// but the one to ask the kernel (peer's oracle)
			Eventually(t, "no connection is left open", func() bool { return Sockets(m.Cmd.Process.Pid) <= sockets+1 })
		}
		m.End(t, syscall.SIGTERM)
		m.NobodyLeft(t)
		if t.Failed() {
			t.Logf("minimail's log:\n%s", m.Log)
		}
	})
	m.Log.Wait(t, "listening")
	sockets = Sockets(m.Cmd.Process.Pid)
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// End signals m and waits for its exit.
func (m *Minimail) End(t testing.TB, s syscall.Signal) int {
	t.Helper()
	_ = m.Cmd.Process.Signal(s)
	select {
	case <-m.exited:
	case <-time.After(Patience):
		_ = m.Cmd.Process.Kill()
		t.Error("minimail does not end")
		<-m.exited
	}
	return m.Cmd.ProcessState.ExitCode()
}

// SSH is the pids of m's tunnels.
func (m *Minimail) SSH() []int { return CommandsWith("-F\x00" + m.Config + "\x00-N") }

func (m *Minimail) NobodyLeft(t testing.TB) {
	t.Helper()
	Eventually(t, "no ssh is left", func() bool { return len(m.SSH()) == 0 })
}

// Down waits until the tunnel is closed.
func (m *Minimail) Down(t testing.TB) {
	t.Helper()
	m.NobodyLeft(t)
}

// TheSSH waits until there is one ssh, and returns its pid.
func (m *Minimail) TheSSH(t testing.TB) int {
	t.Helper()
	var pids []int
	Eventually(t, "one ssh runs", func() bool { pids = m.SSH(); return len(pids) == 1 })
	return pids[0]
}

func (m *Minimail) Dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * Patience))
	return c.(*net.TCPConn)
}

// Greeting is the first line that a new client gets; the client then leaves.
func (m *Minimail) Greeting(t testing.TB) string {
	t.Helper()
	c := m.Dial(t)
	defer c.Close()
	return ReadLine(t, bufio.NewReader(c))
}

// Greets fails the test unless a new client is served.
func (m *Minimail) Greets(t testing.TB) {
	t.Helper()
	if got := m.Greeting(t); !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeting %q, want the far server's 220", got)
	}
}

// Serves fails the test unless a new client is served, now or when those
// before it have been told 421: a back-off that is on has to pass first.
func (m *Minimail) Serves(t testing.TB) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(2 * Patience); time.Now().Before(deadline); {
		if got = m.Greeting(t); !strings.HasPrefix(got, "421 ") {
			break
		}
	}
	if !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeting %q, want the far server's 220", got)
	}
}

// tooEarly is what a client is told whose --wait was over before anything was
// known of the tunnel, or before ssh had said why. On a busy machine a login takes
// seconds.
var tooEarly = regexp.MustCompile(`^421 .*(ssh is still trying after|this machine is too busy|the last tunnel is still closing|does not listen at the near end|` +
	`(the near end dropped the connection|ended without a greeting|the mail server says nothing|are waiting for its answer)$)`)

// Refuses fails the test unless a new client gets a 421 that matches re, now or
// after others that have come too early.
func (m *Minimail) Refuses(t testing.TB, re string) {
	t.Helper()
	m.refuses(t, re, tooEarly)
}

// ComesToRefuse is Refuses where the first clients may be told of what was before:
// their --wait was over before the next launch had failed.
func (m *Minimail) ComesToRefuse(t testing.TB, re string) {
	t.Helper()
	m.refuses(t, re, regexp.MustCompile(`^421 `))
}

func (m *Minimail) refuses(t testing.TB, re string, before *regexp.Regexp) {
	t.Helper()
	want := regexp.MustCompile(`^421 \S+ minimail: .*` + re)
	got := m.Greeting(t)
	for deadline := time.Now().Add(Patience); !want.MatchString(got) && before.MatchString(got) && time.Now().Before(deadline); {
		got = m.Greeting(t)
	}
	if !want.MatchString(got) {
		t.Fatalf("greeting %q, want a 421 that matches %q", got, re)
	}
}

func ReadLine(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("read %q and then %v, want a line", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// Forgets has the back-off ended.
func (m *Minimail) Forgets(t testing.TB) {
	t.Helper()
	n := m.Log.Count("back-off forgotten")
	_ = m.Cmd.Process.Signal(syscall.SIGHUP)
	Eventually(t, "the back-off is forgotten", func() bool { return m.Log.Count("back-off forgotten") > n })
}
