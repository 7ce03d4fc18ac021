package main

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
)

// The faults that clients make, and loads. docs/FAULTS.md is their table.

func TestFault23ClientLeavesWhileItWaits(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, "Port "+strconv.Itoa(blackHole(t)))
	m := h.minimail(t, mailServer(t, nil), "--ssh-option", "ConnectTimeout=60")
	c := m.dial(t)
	m.theSSH(t)
	c.Close()
	m.log.wait(t, "client left before it was served")
	m.down(t) // its lease was the last
	h.configure(t)
	m.greets(t)
}

// A fake ssh, because a thousand real logins take minutes; the end of the
// tunnel and the race are real.
func TestFault24ClientComesAsTheCountdownEnds(t *testing.T) {
	t.Parallel()
	needRoot(t)
	far := mailServer(t, nil)
	dir := publicDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command(t, "cp", self, filepath.Join(dir, "ssh"))
	h := &host{dir: dir}
	write(t, h.path("ssh_config"), "")
	const idle = 5 * time.Millisecond
	m := h.prepare(t, far, "--ssh", h.path("ssh"), "--idle", idle.String())
	m.cmd.Env = append(os.Environ(), "TEST_ROLE=ssh")
	m.start(t)
	served := 0
	for i := range 1000 {
		m.greets(t)
		served++
		time.Sleep(idle - time.Millisecond + time.Duration(i%20)*100*time.Microsecond) // to hit the moment, not to wait for it
	}
	launches := m.log.count("launched ssh")
	if calledOff := m.log.count("called off"); launches < 50 || calledOff < 50 {
		t.Errorf("%d launches and %d countdowns called off: the moment was not hit", launches, calledOff)
	}
	t.Logf("%d clients served, %d launches", served, launches)
}

func init() { roles["ssh"] = actAsSSH }

// actAsSSH forwards from the near end of the first -L to its far end, until
// TERM.
func actAsSSH(args []string) int {
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
	return 0 // asked for its version
}

func TestFault25ClientHalfClosesAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil))
	for _, c := range []struct{ said, want string }{
		{"QUIT\r\n", "220 far.test ESMTP\r\n221 bye\r\n"},
		{"", "220 far.test ESMTP\r\n"},
	} {
		nc := exec.Command("nc", "-N", "127.0.0.1", strconv.Itoa(m.port))
		nc.Stdin = strings.NewReader(c.said)
		out, err := nc.CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("nc that sends %q got %q, %v; want %q", c.said, out, err, c.want)
		}
		m.down(t)
	}
}

func TestFault26ClientResets(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ended := make(chan struct{}, 1)
	far := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 far\r\n")
		_, _ = io.Copy(io.Discard, c)
		ended <- struct{}{}
	})
	m := h.minimail(t, far)
	c := m.dial(t)
	line(t, bufio.NewReader(c))
	_ = c.SetLinger(0)
	c.Close()
	m.log.wait(t, `client served.*end="client reset"`)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the far server was not told")
	}
	m.down(t)
	m.greets(t)
}

func TestFault27ClientNeverReads(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var flood atomic.Bool
	flood.Store(true)
	far := listen(t, func(c net.Conn) {
		if !flood.Load() {
			speakSMTP(c, nil)
			return
		}
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, "220-"+strings.Repeat("x", 400)+"\r\n")
		}
	})
	m := h.minimail(t, far, "--drain", "1s")
	m.dial(t) // and that is all
	m.log.wait(t, "the tunnel answers")
	flood.Store(false)
	m.greets(t)
	if code := m.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// Descriptors run out when there are more clients than they suffice for: the
// others wait, and no client keeps another from being served.
func TestFault28MinimailHasFewDescriptors(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	m.cmd.Args = append([]string{"prlimit", "--nofile=60", m.cmd.Path}, m.cmd.Args[1:]...)
	m.cmd.Path, _ = exec.LookPath("prlimit")
	m.start(t)
	crowd(t, m, 40, "fewer clients than --max-clients")
	m.greets(t)
	if m.log.has("too many open files") {
		t.Error("descriptors ran out")
	}
}

func TestFault28SSHHasNoDescriptorsLeft(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ssh := filepath.Join(publicDir(t), "ssh")
	write(t, ssh, "#!/bin/sh\nulimit -n 14\nexec ssh \"$@\"\n")
	if err := os.Chmod(ssh, 0o755); err != nil {
		t.Fatal(err)
	}
	m := h.minimail(t, mailServer(t, nil), "--ssh", ssh)
	crowd(t, m, 30, "Too many open files")
	m.greets(t)
}

// crowd makes n clients, more than there are descriptors for, of which each
// leaves when it has been greeted and there has been a complaint in the log;
// all must be greeted.
func crowd(t *testing.T, m *minimail, n int, complaint string) {
	t.Helper()
	var all sync.WaitGroup
	complained := make(chan struct{})
	for range n {
		c := m.dial(t)
		all.Go(func() {
			defer c.Close()
			got, err := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(got, "220 ") {
				t.Errorf("a client got %q, %v", got, err)
			}
			<-complained
		})
	}
	m.log.wait(t, complaint)
	close(complained)
	all.Wait()
}

// Not in parallel with others: it is a load.
func TestFault29TwoThousandClientsAtOnce(t *testing.T) {
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--max-clients", "2000", "--wait", "60")
	const n = 2000
	var greeted atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", m.port), time.Minute)
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
	if got := m.log.count("launched ssh"); got != 1 {
		t.Errorf("%d launches, want one for all", got)
	}
}

func TestFault30MoreClientsThanAllowed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var now, most atomic.Int64
	far := listen(t, func(c net.Conn) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		speakSMTP(c, nil)
	})
	m := h.minimail(t, far, "--max-clients", "3")
	var all sync.WaitGroup
	for range 20 {
		c := m.dial(t)
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
