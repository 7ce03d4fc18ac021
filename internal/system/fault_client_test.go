package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// The faults that clients make, and loads. docs/FAULTS.md is their table.

func TestFault23ClientLeavesWhileItWaits(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--ssh-option", "ConnectTimeout=60", "--idle", "1s")
	sshd := h.Processes()[0]
	_ = syscall.Kill(sshd, syscall.SIGSTOP)
	c := m.Dial(t)
	login := m.TheSSH(t)
	c.Close()
	m.Log.Wait(t, "client left before it was served")
	next := m.Dial(t) // before the login ends, and a countdown begins
	_ = syscall.Kill(sshd, syscall.SIGCONT)
	// It is served by the login that the first one's leaving has not broken off.
	if got := testbed.ReadLine(t, bufio.NewReader(next)); !strings.HasPrefix(got, "220 ") {
		t.Errorf("the next client got %q", got)
	}
	next.Close()
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("%d launches; the first was pid %d", n, login)
	}
	m.Down(t) // its lease was the last
}

// A fake ssh, because a thousand real logins take minutes; the end of the
// tunnel and the race are real.
func TestFault24ClientComesAsTheCountdownEnds(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	far := testbed.MailServer(t, nil)
	dir := testbed.PublicDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testbed.Run(t, "cp", self, filepath.Join(dir, "ssh"))
	h := &testbed.Host{Dir: dir}
	testbed.Write(t, h.Path("ssh_config"), "")
	const idle = 5 * time.Millisecond
	m := h.Prepare(t, far, "--ssh", h.Path("ssh"), "--idle", idle.String())
	m.Cmd.Env = append(os.Environ(), "TEST_ROLE=ssh")
	m.Start(t)
	served := 0
	launches := 0
	for ; launches < 6; launches = m.Log.Count("launched ssh") {
		for i := range 50 {
			m.Greets(t)
			served++
			time.Sleep(idle - time.Millisecond + time.Duration(i%20)*100*time.Microsecond) // to hit the moment, not to wait for it
		}
	}
	if calledOff := m.Log.Count("called off"); calledOff < 50 {
		t.Errorf("%d launches and %d countdowns called off: the moment was not hit", launches, calledOff)
	}
	t.Logf("%d clients served, %d launches", served, launches)
}

func init() { testbed.Roles["ssh"] = actAsSSH }

// actAsSSH forwards from the near end of the first -L to its far end, until
// TERM.
func actAsSSH(args []string) int {
	if len(args) > 0 && args[0] == "-G" {
		return 0
	}
	for i, a := range args {
		if a != "-L" {
			continue
		}
		near, far, _ := strings.Cut(args[i+1], ":")
		l, err := net.Listen("tcp4", "127.0.0.1:"+near)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 255
		}
		fmt.Print("Authenticated to far (via proxy).\r\n")
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", far)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { _, _ = io.Copy(s, c); s.Close() }()
				_, _ = io.Copy(c, s)
			}()
		}
	}
	return 0 // asked for its version, or for what it would do
}

func TestFault25ClientHalfClosesAtOnce(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil))
	for _, c := range []struct{ said, want string }{
		{"QUIT\r\n", "220 far.test ESMTP\r\n221 bye\r\n"},
		{"", "220 far.test ESMTP\r\n"},
	} {
		nc := exec.Command("nc", "-N", "127.0.0.1", strconv.Itoa(m.Port))
		nc.Stdin = strings.NewReader(c.said)
		out, err := nc.CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("nc that sends %q got %q, %v; want %q", c.said, out, err, c.want)
		}
		m.Down(t)
	}
}

func TestFault26ClientResets(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	ended := make(chan struct{}, 1)
	far := testbed.Listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 far\r\n")
		_, _ = io.Copy(io.Discard, c)
		ended <- struct{}{}
	})
	m := h.Minimail(t, far)
	c := m.Dial(t)
	testbed.ReadLine(t, bufio.NewReader(c))
	_ = c.SetLinger(0)
	c.Close()
	m.Log.Wait(t, `client served.*end="client reset"`)
	select {
	case <-ended:
	case <-time.After(testbed.Patience):
		t.Error("the far server was not told")
	}
	m.Down(t)
	m.Greets(t)
}

func TestFault27ClientNeverReads(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	var flood atomic.Bool
	flood.Store(true)
	far := testbed.Listen(t, func(c net.Conn) {
		if !flood.Load() {
			testbed.SpeakSMTP(c, nil)
			return
		}
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, "220-"+strings.Repeat("x", 400)+"\r\n")
		}
	})
	m := h.Minimail(t, far, "--drain", "1s")
	m.Dial(t) // and that is all
	m.Log.Wait(t, "the tunnel answers")
	flood.Store(false)
	m.Greets(t)
	if code := m.End(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// Descriptors run out when there are more clients than they suffice for: the
// others wait, and no client keeps another from being served.
func TestFault28MinimailHasFewDescriptors(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	m.Cmd.Args = append([]string{"prlimit", "--nofile=60", m.Cmd.Path}, m.Cmd.Args[1:]...)
	m.Cmd.Path, _ = exec.LookPath("prlimit")
	m.Start(t)
	crowd(t, m, 40, "fewer clients than --max-clients")
	m.Greets(t)
	if m.Log.Has("too many open files") {
		t.Error("descriptors ran out")
	}
}

// TestFault28TooFewDescriptorsToStartAreNotBlamedOnSSHsSettings, whichever step of
// the start it is that has none.
func TestFault28TooFewDescriptorsToStartAreNotBlamedOnSSHsSettings(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	refused := 0
	for n := 12; n < 36; n++ {
		args := append([]string{"--nofile=" + strconv.Itoa(n), testbed.Program, "start", "-l", os.DevNull}, m.Cmd.Args[2:]...)
		out, err := exec.Command("prlimit", args...).CombinedOutput()
		switch {
		case err == nil:
			testbed.Run(t, testbed.Program, "stop", "-p", m.Pid)
		case strings.Contains(string(out), "does not like"):
			t.Errorf("with %d: %s", n, out)
		case strings.Contains(string(out), "cannot run ssh: "):
			refused++
		}
	}
	if refused == 0 {
		t.Error("ssh could be run with any limit")
	}
}

func TestFault28SSHHasNoDescriptorsLeft(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	ssh := testbed.Script(t, "ulimit -n 14\nexec ssh \"$@\"\n")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--ssh", ssh)
	crowd(t, m, 30, "Too many open files")
	m.Greets(t)
}

// crowd makes n clients, more than there are descriptors for, of which each
// leaves when it has been greeted and there has been a complaint in the log;
// all must be greeted.
func crowd(t *testing.T, m *testbed.Minimail, n int, complaint string) {
	t.Helper()
	var all sync.WaitGroup
	complained := make(chan struct{})
	for range n {
		c := m.Dial(t)
		all.Go(func() {
			defer c.Close()
			got, err := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(got, "220 ") {
				t.Errorf("a client got %q, %v", got, err)
			}
			<-complained
		})
	}
	m.Log.Wait(t, complaint)
	close(complained)
	all.Wait()
}

// Not in parallel with others: it is a load.
func TestFault29TwoThousandClientsAtOnce(t *testing.T) {
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--max-clients", "2000", "--wait", "60")
	const n = 2000
	var greeted atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", m.Port), time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			got, err := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(got, "220 ") {
				t.Errorf("got %q, %v", got, err)
				return
			}
			greeted.Add(1)
		})
	}
	all.Wait()
	if got := greeted.Load(); got != n {
		t.Errorf("%d of %d clients were greeted", got, n)
	}
	if got := m.Log.Count("launched ssh"); got != 1 {
		t.Errorf("%d launches, want one for all", got)
	}
}

func TestFault30MoreClientsThanAllowed(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	var now, most atomic.Int64
	far := testbed.Listen(t, func(c net.Conn) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		testbed.SpeakSMTP(c, nil)
	})
	m := h.Minimail(t, far, "--max-clients", "3")
	var all sync.WaitGroup
	for range 20 {
		c := m.Dial(t)
		all.Go(func() {
			defer c.Close()
			r := bufio.NewReader(c)
			got, err := r.ReadString('\n')
			if !strings.HasPrefix(got, "220 ") {
				t.Errorf("a client got %q, %v", got, err)
			}
			_, _ = io.WriteString(c, "QUIT\r\n")
			_, _ = r.ReadString('\n')
		})
	}
	all.Wait()
	if got := most.Load(); got > 3 {
		t.Errorf("%d clients at a time", got)
	}
}
