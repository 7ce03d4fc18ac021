package system

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// again runs a word with m's options, and returns what it says.
func again(t *testing.T, m *testbed.Minimail, word string, more ...string) (string, error) {
	t.Helper()
	args := append([]string{word}, m.Cmd.Args[2:]...) // without -X
	out, err := exec.Command(testbed.Program, append(args, more...)...).CombinedOutput()
	return string(out), err
}

// pidOf is the pid in m's pid file.
func pidOf(t *testing.T, m *testbed.Minimail) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(testbed.Read(t, m.Pid)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// atWork is a client that has been greeted and is in the middle of its session.
func atWork(t *testing.T, m *testbed.Minimail) (finish func()) {
	t.Helper()
	c := m.Dial(t)
	r := bufio.NewReader(c)
	testbed.ReadLine(t, r)
	return func() {
		t.Helper()
		fmt.Fprint(c, "NOOP\r\n")
		if got := testbed.ReadLine(t, r); got != "250 ok" {
			t.Errorf("a client at work got %q", got)
		}
		c.Close()
	}
}

// A queue are clients that come one after the other, whoever serves them.
type queue struct {
	stop    chan struct{}
	clients sync.WaitGroup
	here    atomic.Int64
	mu      sync.Mutex
	came    int
	wrong   []string
}

// many is for a minimail to which a queue comes: else so many clients a second are
// too many in the long run (forward/gate.go).
const many = "--max-clients=2000"

// comes has a client come every 10 ms, or more rarely where more than a hundred
// wait: that may take minutes.
func comes(m *testbed.Minimail) *queue {
	c := &queue{stop: make(chan struct{})}
	c.clients.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			case <-time.After(max(10*time.Millisecond, time.Duration(c.here.Load())*100*time.Microsecond)):
				c.clients.Go(func() { c.visit(m) })
			}
		}
	})
	return c
}

func (c *queue) visit(m *testbed.Minimail) {
	c.here.Add(1)
	defer c.here.Add(-1)
	got, err := greeting(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came++
	if err != nil || !strings.HasPrefix(got, "220 ") {
		c.wrong = append(c.wrong, fmt.Sprintf("%q, %v", got, err))
	}
}

func greeting(m *testbed.Minimail) (string, error) {
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", m.Port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(6 * testbed.Patience)) // longer than any --wait, to hear why
	b := make([]byte, 512)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

// ends returns when nobody comes any more, and all have left.
func (c *queue) ends() {
	close(c.stop)
	c.clients.Wait()
}

// leaves checks that all were served.
func (c *queue) leaves(t *testing.T) {
	t.Helper()
	c.ends()
	if len(c.wrong) > 0 {
		t.Errorf("%d of %d clients were not served, first: %s", len(c.wrong), c.came, c.wrong[0])
	}
	t.Logf("%d clients", c.came)
}

// TestRestartsRefuseNobody also has clients at work finish, of the first minimail.
func TestRestartsRefuseNobody(t *testing.T) {
	for _, word := range []string{"restart", "reload"} {
		t.Run(word, func(t *testing.T) {
			h := testbed.NewHost(t)
			// Until those at work finish, the others wait, through all restarts.
			m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "5m", "--drain", "10m", many)
			log := filepath.Join(testbed.PublicDir(t), "log")
			daemonize(t, m, log)
			var finish []func()
			for range 3 {
				finish = append(finish, atWork(t, m))
			}
			first := pidOf(t, m)
			queue := comes(m)
			seen := map[int]bool{first: true}
			for range 20 {
				if out, err := again(t, m, word, "-l", log); err != nil {
					t.Fatalf("%v\n%s\n%s", err, out, testbed.Read(t, log))
				}
				seen[pidOf(t, m)] = true
			}
			for _, f := range finish {
				f()
			}
			queue.leaves(t)
			if len(seen) != 21 {
				t.Errorf("%d processes, want 21", len(seen))
			}
			testbed.Eventually(t, "those before have ended", func() bool { return len(minimails(m)) == 1 })
			m.Greets(t)
			if said := statusOf(t, m); strings.Contains(said, "Before:") {
				t.Errorf("status, of one that has ended:\n%s", said)
			}
			if t.Failed() {
				t.Log(testbed.Read(t, log))
			}
		})
	}
}

// TestARestartLeavesNoSocketOpen, also not that to the minimail before it.
func TestARestartLeavesNoSocketOpen(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	daemonize(t, m, "/dev/null")
	before := testbed.Sockets(pidOf(t, m))
	for range 3 {
		if out, err := again(t, m, "restart"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	testbed.Eventually(t, "there are no more sockets than before", func() bool { return testbed.Sockets(pidOf(t, m)) == before })
}

// minimails are the pids of all that were started for m.
func minimails(m *testbed.Minimail) []int { return testbed.CommandsWith("\x00" + m.Pid + "\x00") }

// TestARestartThatFailsChangesNothing: the same process goes on, and its clients
// notice nothing.
func TestARestartThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	for tries := 1; !restartsThatFail(t); tries++ {
		if tries == 3 {
			t.Fatal("a restart with what ssh does not like does not fail")
		}
	}
}

// restartsThatFail reports whether ssh has told in time what it does not like: for
// what takes it 5 s, as on a busy machine, no restart fails.
func restartsThatFail(t *testing.T) bool {
	t.Helper()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "60s", "--drain", "60s", many)
	log := filepath.Join(testbed.PublicDir(t), "log")
	daemonize(t, m, log)
	finish := atWork(t, m)
	pid, came := pidOf(t, m), comes(m)
	taken := testbed.ServerOf(t, "tcp4", testbed.Intruder)
	_, port, err := net.SplitHostPort(taken)
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, wrong, "MINIMAIL_IDLE=soon\n")
	for name, c := range map[string]struct {
		options []string
		says    string
	}{
		"a user that is not there":  {[]string{"--user", "ghost"}, `there is no user "ghost"`},
		"root":                      {[]string{"--user", "root"}, "must not be root"},
		"a log in no directory":     {[]string{"-l", "/nowhere/log"}, "cannot open the log /nowhere/log"},
		"a port that somebody has":  {[]string{"--forward", port + ":1026:localhost:25"}, "address already in use"},
		"a port of no address here": {[]string{"--forward", "192.0.2.1:25:1026:localhost:25"}, "cannot assign"},
		"a setting that is none":    {[]string{"--idle", "soon"}, `--idle "soon"`},
		"a setting in the file":     {[]string{"--settings", wrong, "--idle", "soon"}, "expected a time"},
		"no host":                   {[]string{"--host", ""}, "no host"},
		"an ssh that is not there":  {[]string{"--ssh", "/nowhere/ssh"}, "/nowhere/ssh"},
		"for ssh, no option":        {[]string{"--ssh-option", "Prot=22"}, "Bad configuration option: prot"},
		"for ssh, no ssh_config":    {[]string{"--ssh-config", wrong}, "line 1: Bad configuration option: minimail_idle"},
	} {
		out, err := again(t, m, "restart", c.options...)
		if err == nil && strings.HasPrefix(name, "for ssh, ") {
			finish()
			came.ends() // some may have been refused
			return false
		}
		if err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v, want an error with %q, got:\n%s", name, err, c.says, out)
		}
		if now := pidOf(t, m); now != pid {
			t.Fatalf("%s: pid %d runs, want %d", name, now, pid)
		}
	}
	out, err := exec.Command("setpriv", "--reuid="+testbed.Intruder, "--regid=nogroup", "--clear-groups",
		testbed.Program, "restart", "--settings", "/dev/null", "--host", "far", "-p", m.Pid).CombinedOutput()
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("somebody else's restart: %v, want exit status 4\n%s", err, out)
	}
	finish()
	came.leaves(t)
	testbed.Eventually(t, "only it runs", func() bool { return len(minimails(m)) == 1 && pidOf(t, m) == pid })
	if got := testbed.Read(t, log); strings.Contains(got, "stopp") {
		t.Errorf("its log:\n%s", got)
	}
	return true
}

// lowPort is a port that only root may bind.
func lowPort(t *testing.T) int {
	t.Helper()
	for port := 1023; port > 600; port-- {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Skip("no port below 1024 is free")
	return 0
}

// TestItsUserRestartsOneThatRootHasStarted needs no root, not even for ports below
// 1024: the sockets are there.
func TestItsUserRestartsOneThatRootHasStarted(t *testing.T) {
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	m := h.Prepare(t, far, "--wait", "60s", many)
	m.Port = lowPort(t)
	m.Cmd.Args = append(m.Cmd.Args, "--forward", fmt.Sprintf("%d:%d:%s", m.Port, m.Near, far))
	i := slices.Index(m.Cmd.Args, "--forward")
	m.Cmd.Args = append(m.Cmd.Args[:i], m.Cmd.Args[i+2:]...)
	log := filepath.Join(testbed.PublicDir(t), "log")
	daemonize(t, m, log)
	first, came := pidOf(t, m), comes(m)
	out := testbed.Run(t, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups",
		testbed.Program, "restart", "--settings", "/dev/null", "-p", m.Pid)
	if !strings.Contains(out, fmt.Sprintf("127.0.0.1:%d", m.Port)) || pidOf(t, m) == first {
		t.Errorf("not restarted: %s", out)
	}
	testbed.Run(t, testbed.Program, "restart", "--settings", "/dev/null", "-p", m.Pid) // and root again
	came.leaves(t)
	if !strings.Contains(testbed.Read(t, log), "another minimail has taken over") {
		t.Error("the log is another one now")
	}
}

// TestAnotherUserTakesOver as another user logs in: with root's restart alone.
func TestAnotherUserTakesOver(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "60s", "--drain", "60s", many)
	daemonize(t, m, "/dev/null")
	finish := atWork(t, m)
	came := comes(m)
	testbed.GiveTo(t, h.Path("key"), testbed.Intruder)
	if out, err := again(t, m, "restart", "--user", testbed.Intruder); err != nil || !strings.Contains(out, "as user "+testbed.Intruder) {
		t.Fatalf("%v\n%s", err, out)
	}
	finish()
	came.leaves(t)
	wants(t, "as the new user", statusOf(t, m, "setpriv", "--reuid="+testbed.Intruder, "--regid=nogroup", "--clear-groups"), `^Tunnel: `, `^User: +`+testbed.Intruder)
}

// TestForwardsComeAndGoByRestart while the clients of the one that stays are
// served.
func TestForwardsComeAndGoByRestart(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	m := h.Prepare(t, far, "--wait", "60s", "--drain", "60s", many)
	daemonize(t, m, "/dev/null")
	came := comes(m)
	other := *m
	other.Port = testbed.FreePort(t)
	added := fmt.Sprintf("%d:%d:%s", other.Port, testbed.FreePort(t), far)
	for range 3 {
		if out, err := again(t, m, "restart", "--forward", added); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		other.Greets(t)
		if out, err := again(t, m, "restart"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		testbed.Eventually(t, "its port is closed", func() bool {
			_, err := greeting(&other)
			return err != nil
		})
	}
	came.leaves(t)
}
