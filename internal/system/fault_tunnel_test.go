package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// The faults of a tunnel that is up, or at its ends. docs/FAULTS.md is their
// table.

func TestFault10FarPortIsClosed(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t))
	m := h.Minimail(t, far, "--wait", "20s")
	m.Refuses(t, "open failed: connect failed: Connection refused")
	if n := m.Log.Count(`ssh="channel \d+: open failed`); n < 2 || n > 32 {
		t.Errorf("the far port was tried %d times in 20 s, want a few times at once, and then about once a second", n)
	}
	l, err := net.Listen("tcp4", far)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go testbed.SpeakSMTP(c, nil)
		}
	}()
	m.Greets(t)
}

func TestFault11ForwardingIsForbidden(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t, "AllowTcpForwarding no")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "1s")
	m.Refuses(t, "administratively prohibited")
	m.Down(t)
	testbed.Write(t, h.Path("sshd_config"), strings.Replace(testbed.Read(t, h.Path("sshd_config")), "AllowTcpForwarding no", "", 1))
	h.Stop()
	h.Start(t)
	m.Serves(t)
}

func TestFault12FarServerSaysNothing(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	var dumb atomic.Bool
	dumb.Store(true)
	far := testbed.Listen(t, func(c net.Conn) {
		if dumb.Load() {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		testbed.SpeakSMTP(c, nil)
	})
	m := h.Minimail(t, far, "--wait", "1s")
	m.Refuses(t, "the mail server says nothing")
	dumb.Store(false)
	m.Serves(t)
}

func TestFault13FarServerIsSlow(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.Listen(t, func(c net.Conn) {
		select {
		case <-time.After(27 * time.Second): // more than --wait is by default
			testbed.SpeakSMTP(c, nil)
		case <-t.Context().Done():
		}
	})
	h.Minimail(t, far, "--wait", "60").Greets(t)
}

func TestFault16SSHIsKilledWhileClientsWait(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, h.Slowly())
	m := h.Minimail(t, testbed.MailServer(t, nil))
	var clients []net.Conn
	for range 3 {
		clients = append(clients, m.Dial(t))
	}
	_ = syscall.Kill(m.TheSSH(t), syscall.SIGKILL)
	for _, c := range clients {
		if got := testbed.ReadLine(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
			t.Errorf("a client got %q, want to be served by the next tunnel", got)
		}
	}
	m.Log.Wait(t, "ended by itself.*signal: killed")
}

func TestFault17SSHIsKilledInMidSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, reply, want, end string }{
		{"between replies", "", "421 ", "tunnel lost"},
		{"in the middle of a reply", "250-one\r\n", "", "tunnel lost"},
		{"in the middle of a line", "250 do", "", "tunnel lost"},
		{"after good-bye", "221 bye\r\n", "", "server closed"},
		{"within TLS", "\x17\x03\x03\x00\x02\n\n", "", "tunnel lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			far := testbed.Listen(t, func(s net.Conn) {
				_, _ = io.WriteString(s, "220 far\r\n"+c.reply)
				_, _ = io.Copy(io.Discard, s)
			})
			m := h.Minimail(t, far)
			client := m.Dial(t)
			said := make([]byte, len("220 far\r\n"+c.reply))
			if _, err := io.ReadFull(client, said); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(m.TheSSH(t), syscall.SIGKILL)
			rest, err := io.ReadAll(client)
			if err != nil || !strings.HasPrefix(string(rest), c.want) || (c.want == "") != (len(rest) == 0) {
				t.Errorf("then the client got %q, %v; want %q and the end", rest, err, c.want)
			}
			m.Log.Wait(t, `client served.*end="`+c.end+`"`)
			m.Greets(t)
		})
	}
}

// TestFault17SSHIsKilledInMidTransfer: a client that has no protocol in common with
// us must not take a lost tunnel for a complete answer, also if it has said all.
func TestFault17SSHIsKilledInMidTransfer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		socket, saidAll bool // the near end is one; the client has
		host            bool // is what ends it
	}{
		"port":                                  {},
		"port, and the client has said all":     {saidAll: true},
		"port, by the host":                     {host: true},
		"port, by the host, who was told all":   {host: true, saidAll: true},
		"socket":                                {socket: true},
		"socket, and the client has said all":   {socket: true, saidAll: true},
		"socket, by the host":                   {socket: true, host: true},
		"socket, by the host, who was told all": {socket: true, host: true, saidAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			m := h.Prepare(t, testbed.Listen(t, func(s net.Conn) {
				_, _ = io.WriteString(s, "half a")
				<-t.Context().Done()
			}), "--protocol", "tcp")
			if c.socket {
				dir := testbed.PublicDir(t)
				testbed.GiveTo(t, dir, testbed.RunAs)
				nearAt(m, filepath.Join(dir, "near"))
			}
			m.Start(t)
			client := m.Dial(t)
			if c.saidAll {
				_ = client.CloseWrite()
			}
			if _, err := io.ReadFull(client, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			if c.host {
				h.Stop()
			} else {
				_ = syscall.Kill(m.TheSSH(t), syscall.SIGKILL)
			}
			if rest, err := io.ReadAll(client); err == nil {
				t.Errorf("the client got %q and a clean end", rest)
			}
			m.Log.Wait(t, `client served.*end="tunnel lost"`)
		})
	}
}

func TestFault18SSHDIsKilled(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "6s", "--idle", "1h")
	m.Serves(t)
	c := m.Dial(t)
	r := bufio.NewReader(c)
	testbed.ReadLine(t, r)
	h.Stop()
	if got := testbed.ReadLine(t, r); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "lost") {
		t.Errorf("in mid-session the client got %q, want a 421", got)
	}
	m.ComesToRefuse(t, "Connection refused")
	h.Start(t)
	m.Serves(t)
}

func TestFault19SSHDIsFrozen(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--idle", "1h", "--wait", "60s")
	m.Greets(t)
	for _, pid := range h.Processes()[1:] { // the session; new ones can be had
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	m.Greets(t) // through another one
	m.Log.Wait(t, "the connection to the host is dead.*the host has said nothing for (1[5-9]|[2-9]\\d) s, though ssh has asked")
}

func TestFault20MinimailIsKilled(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	m := h.Minimail(t, far, "--idle", "1h")
	m.Greets(t)
	m.TheSSH(t)
	m.End(t, syscall.SIGKILL)
	m.NobodyLeft(t)
	again := *m
	again.Cmd = exec.Command(m.Cmd.Path, m.Cmd.Args[1:]...)
	again.Start(t)
	again.Greets(t)
}

func TestFault21MinimailIsStopped(t *testing.T) {
	t.Parallel()
	t.Run("with a client that waits", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		h.Configure(t, "Port "+strconv.Itoa(blackHole(t)))
		m := h.Minimail(t, testbed.MailServer(t, nil))
		c := m.Dial(t)
		m.TheSSH(t)
		code := make(chan int)
		go func() { code <- m.End(t, syscall.SIGTERM) }()
		if got := testbed.ReadLine(t, bufio.NewReader(c)); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "stopping") {
			t.Errorf("the client got %q", got)
		}
		c.Close()
		if got := <-code; got != 0 {
			t.Errorf("exit status %d", got)
		}
	})
	t.Run("with a client at work", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Minimail(t, testbed.MailServer(t, nil))
		c := m.Dial(t)
		r := bufio.NewReader(c)
		testbed.ReadLine(t, r)
		_ = m.Cmd.Process.Signal(syscall.SIGTERM)
		m.Log.Wait(t, "stopping")
		_, _ = io.WriteString(c, "QUIT\r\n")
		if got := testbed.ReadLine(t, r); !strings.HasPrefix(got, "221 ") {
			t.Errorf("the client got %q", got)
		}
		if got := m.End(t, 0); got != 0 {
			t.Errorf("exit status %d", got)
		}
	})
	t.Run("with a client that does not finish", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Minimail(t, testbed.MailServer(t, nil), "--drain", "1s")
		c := m.Dial(t)
		r := bufio.NewReader(c)
		testbed.ReadLine(t, r)
		_ = m.Cmd.Process.Signal(syscall.SIGTERM)
		if got := testbed.ReadLine(t, r); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "stopping") {
			t.Errorf("the client got %q", got)
		}
		c.Close()
		m.End(t, 0)
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Minimail(t, testbed.MailServer(t, nil), "--drain", "1h")
		testbed.ReadLine(t, bufio.NewReader(m.Dial(t)))
		_ = m.Cmd.Process.Signal(syscall.SIGTERM)
		m.Log.Wait(t, "stopping")
		if got := m.End(t, syscall.SIGTERM); got != 1 {
			t.Errorf("exit status %d", got)
		}
		m.NobodyLeft(t)
	})
}

// A frozen ssh is as deaf to TERM as can be.
func TestFault22SSHIsDeafToTERM(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--idle", "1s", "--drain", "1s")
	c := m.Dial(t)
	testbed.ReadLine(t, bufio.NewReader(c))
	_ = syscall.Kill(m.TheSSH(t), syscall.SIGSTOP)
	c.Close() // which ssh does not see, but minimail does: --drain is over then
	m.Log.Wait(t, "killing ssh")
	m.Down(t)
	m.Greets(t)
	if m.Log.Has("ended by itself") {
		t.Error("the end of the first tunnel was taken for a fault")
	}
}
