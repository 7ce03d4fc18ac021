package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The faults of a tunnel that is up, or at its ends. docs/FAULTS.md is their
// table.

func TestFault10FarPortIsClosed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	m := h.minimail(t, far, "--wait", "2500ms")
	m.refuses(t, "open failed: connect failed: Connection refused")
	if n := m.log.count(`ssh="channel \d+: open failed`); n < 2 || n > 4 {
		t.Errorf("the far port was tried %d times in 2.5 s, want about once a second", n)
	}
	l, err := net.Listen("tcp4", far)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go speakSMTP(c, nil)
		}
	}()
	m.greets(t)
}

func TestFault11ForwardingIsForbidden(t *testing.T) {
	t.Parallel()
	h := newHost(t, "AllowTcpForwarding no")
	m := h.minimail(t, mailServer(t, nil), "--wait", "1s")
	m.refuses(t, "administratively prohibited")
	m.down(t)
	write(t, h.path("sshd_config"), strings.Replace(read(t, h.path("sshd_config")), "AllowTcpForwarding no", "", 1))
	h.stop()
	h.start(t)
	m.serves(t)
}

func TestFault12FarServerSaysNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var dumb atomic.Bool
	dumb.Store(true)
	far := listen(t, func(c net.Conn) {
		if dumb.Load() {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		speakSMTP(c, nil)
	})
	m := h.minimail(t, far, "--wait", "1s")
	m.refuses(t, "the mail server says nothing")
	dumb.Store(false)
	m.greets(t)
}

func TestFault13FarServerIsSlow(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := listen(t, func(c net.Conn) {
		select {
		case <-time.After(35 * time.Second):
			speakSMTP(c, nil)
		case <-t.Context().Done():
		}
	})
	h.minimail(t, far, "--wait", "60").greets(t)
}

func TestFault14NearPortIsSomebodyElses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hosts  []string
		during bool // the login
		served bool
		deaf   bool // it does not accept
	}{
		"both families, before":    {[]string{"127.0.0.1", "::1"}, false, false, false},
		"IPv4, before":             {[]string{"127.0.0.1"}, false, true, false},
		"IPv6, before":             {[]string{"::1"}, false, true, false},
		"both families, meanwhile": {[]string{"127.0.0.1", "::1"}, true, false, false},
		"IPv4, deaf":               {[]string{"127.0.0.1"}, false, true, true},
		"IPv4, meanwhile":          {[]string{"127.0.0.1"}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			m := h.prepare(t, mailServer(t, nil), "--wait", "6s")
			spy := intrude(t, m.near, c.hosts)
			if c.deaf {
				spy.cmd.Env = append(os.Environ(), "TEST_ROLE=deaf spy")
			}
			if c.during {
				h.configure(t, h.slowly())
			} else {
				spy.start(t)
			}
			m.start(t)
			client := m.dial(t)
			_, _ = io.WriteString(client, "EHLO secret.test\r\n")
			if c.during {
				m.theSSH(t)
				spy.start(t)
			}
			got := line(t, bufio.NewReader(client))
			if want := map[bool]string{true: "220 ", false: "421 "}[c.served]; !strings.HasPrefix(got, want) {
				t.Errorf("the client got %q, want %s", got, want)
			}
			if !c.served && !strings.Contains(got, strconv.Itoa(m.near)) {
				t.Errorf("the client got %q, which does not name the near end", got)
			}
			client.Close()
			if c.hosts[0] == "127.0.0.1" {
				m.log.wait(t, fmt.Sprintf(`is held by uid %d \(%s\)`, uidOf(t, intruder), intruder))
			}
			if got := spy.stop(); got != "" {
				t.Errorf("the intruder has read %q", got)
			}
			m.serves(t)
		})
	}
}

// A spy is another user's process on our near end.
type spy struct{ cmd *exec.Cmd }

func intrude(t *testing.T, port int, hosts []string) *spy {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyOf := filepath.Join(publicDir(t), "spy") // the test binary's own place is private
	command(t, "cp", self, copyOf)
	s := &spy{cmd: exec.Command(copyOf, append([]string{strconv.Itoa(port)}, hosts...)...)}
	s.cmd.Env = append(os.Environ(), "TEST_ROLE=spy")
	uid := uint32(uidOf(t, intruder))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return s
}

// start returns when the spy listens.
func (s *spy) start(t *testing.T) {
	t.Helper()
	said := new(words)
	s.cmd.Stderr = said
	heard := new(words)
	s.cmd.Stdout = heard
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })
	said.wait(t, "listening")
}

// stop ends the spy and returns what it has read.
func (s *spy) stop() string {
	if s.cmd.ProcessState == nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	return s.cmd.Stdout.(*words).String()
}

func init() {
	roles["spy"] = spyOn
	roles["deaf spy"] = func(args []string) int {
		l, err := net.Listen("tcp", net.JoinHostPort(args[1], args[0]))
		if err != nil {
			return 1
		}
		defer l.Close()
		fmt.Fprintln(os.Stderr, "listening")
		time.Sleep(time.Hour) // until killed
		return 0
	}
}

// spyOn listens on a port of hosts, as hard as it can, and prints what it is
// sent.
func spyOn(args []string) int {
	for _, host := range args[1:] {
		l, err := net.Listen("tcp", net.JoinHostPort(host, args[0]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() {
					_, _ = io.WriteString(c, "220 spy\r\n")
					_, _ = io.Copy(os.Stdout, c)
				}()
			}
		}()
	}
	fmt.Fprintln(os.Stderr, "listening")
	select {}
}

func TestFault15NearPortIsOurLeftOverSSHs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := mailServer(t, nil)
	m := h.prepare(t, far, "--wait", "6s")
	left := exec.Command("setpriv", "--reuid="+runAs, "--regid=nogroup", "--clear-groups",
		"ssh", "-N", "-F", h.path("ssh_config"), "-L", fmt.Sprintf("%d:%s", m.near, far), "far")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = left.Process.Kill()
		_ = left.Wait()
	}()
	eventually(t, "the left-over ssh listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.near))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	_ = left.Process.Signal(syscall.SIGSTOP) // its host is gone, say
	m.start(t)
	m.refuses(t, fmt.Sprintf("ssh cannot listen on %d.*Address already in use", m.near))
	_ = left.Process.Kill()
	m.serves(t)
}

// Two minimails of one user, for two hosts, may have been given the same near
// end. No mail may go to the other one's host.
func TestFault15NearEndIsAnotherTunnelsOfOurs(t *testing.T) {
	for name, socket := range map[string]bool{"port": false, "socket": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var near any = freePort(t)
			if socket {
				dir := publicDir(t)
				giveTo(t, dir, runAs)
				near = filepath.Join(dir, "near")
			}
			var all [2]*minimail
			for i := range all {
				greets := func(c net.Conn) {
					_, _ = fmt.Fprintf(c, "220 host %d\r\n", i)
					_, _ = io.Copy(io.Discard, c)
				}
				m := newHost(t).prepare(t, listen(t, greets), "--wait", "3s", "--idle", "1h")
				at := slices.Index(m.cmd.Args, "--forward") + 1
				m.cmd.Args[at] = strings.Replace(m.cmd.Args[at], strconv.Itoa(m.near), fmt.Sprint(near), 1)
				m.start(t)
				all[i] = m
			}
			is := func(m *minimail, want string) {
				t.Helper()
				if got := m.greeting(t); !regexp.MustCompile(want).MatchString(got) {
					t.Errorf("greeting %q, want %q", got, want)
				}
			}
			is(all[0], "^220 host 0$")
			if socket { // the second ssh takes the path from the first one
				is(all[1], "^220 host 1$")
				is(all[0], "^421 .* belongs to another ssh, pid [0-9]+")
			} else {
				is(all[1], "^421 .* cannot listen on .*Address already in use")
				is(all[0], "^220 host 0$")
			}
		})
	}
}

func TestFault16SSHIsKilledWhileClientsWait(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, h.slowly())
	m := h.minimail(t, mailServer(t, nil))
	var clients []net.Conn
	for range 3 {
		clients = append(clients, m.dial(t))
	}
	_ = syscall.Kill(m.theSSH(t), syscall.SIGKILL)
	for _, c := range clients {
		if got := line(t, bufio.NewReader(c)); !strings.HasPrefix(got, "220 ") {
			t.Errorf("a client got %q, want to be served by the next tunnel", got)
		}
	}
	m.log.wait(t, "ended by itself.*signal: killed")
}

func TestFault17SSHIsKilledInMidSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, reply, want, end string }{
		{"between replies", "250 done\r\n", "421 ", "tunnel lost"},
		{"in the middle of a reply", "250-one\r\n", "", "tunnel lost"},
		{"in the middle of a line", "250 do", "", "tunnel lost"},
		{"after good-bye", "221 bye\r\n", "", "server closed"},
		{"within TLS", "\x17\x03\x03\x00\x02\n\n", "", "tunnel lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			far := listen(t, func(s net.Conn) {
				_, _ = io.WriteString(s, "220 far\r\n"+c.reply)
				_, _ = io.Copy(io.Discard, s)
			})
			m := h.minimail(t, far)
			client := m.dial(t)
			said := make([]byte, len("220 far\r\n"+c.reply))
			if _, err := io.ReadFull(client, said); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(m.theSSH(t), syscall.SIGKILL)
			rest, err := io.ReadAll(client)
			if err != nil || !strings.HasPrefix(string(rest), c.want) || (c.want == "") != (len(rest) == 0) {
				t.Errorf("then the client got %q, %v; want %q and the end", rest, err, c.want)
			}
			m.log.wait(t, `client served.*end="`+c.end+`"`)
			m.greets(t)
		})
	}
}

// A client that has no protocol in common with us must not take a lost tunnel
// for a complete answer.
func TestFault17SSHIsKilledInMidTransfer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, listen(t, echo), "--protocol", "tcp")
	c := m.dial(t)
	_, _ = io.WriteString(c, "half a")
	if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(m.theSSH(t), syscall.SIGKILL)
	if rest, err := io.ReadAll(c); err == nil {
		t.Errorf("the client got %q and a clean end", rest)
	}
}

func TestFault18SSHDIsKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--wait", "6s")
	c := m.dial(t)
	r := bufio.NewReader(c)
	line(t, r)
	h.stop()
	if got := line(t, r); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "lost") {
		t.Errorf("in mid-session the client got %q, want a 421", got)
	}
	m.refuses(t, "Connection refused")
	h.start(t)
	m.serves(t)
}

func TestFault19SSHDIsFrozen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--idle", "1h")
	m.greets(t)
	for _, pid := range h.processes()[1:] { // the session; new ones can be had
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	m.greets(t)
	m.log.wait(t, "ended by itself.*not responding")
}

func TestFault20MinimailIsKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := mailServer(t, nil)
	m := h.minimail(t, far, "--idle", "1h")
	m.greets(t)
	m.theSSH(t)
	m.end(t, syscall.SIGKILL)
	m.nobodyLeft(t)
	again := *m
	again.cmd = exec.Command(m.cmd.Path, m.cmd.Args[1:]...)
	again.start(t)
	again.greets(t)
}

func TestFault21MinimailIsStopped(t *testing.T) {
	t.Parallel()
	t.Run("with a client that waits", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		h.configure(t, "Port "+strconv.Itoa(blackHole(t)))
		m := h.minimail(t, mailServer(t, nil))
		c := m.dial(t)
		m.theSSH(t)
		code := make(chan int)
		go func() { code <- m.end(t, syscall.SIGTERM) }()
		if got := line(t, bufio.NewReader(c)); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "stopping") {
			t.Errorf("the client got %q", got)
		}
		c.Close()
		if got := <-code; got != 0 {
			t.Errorf("exit status %d", got)
		}
	})
	t.Run("with a client at work", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		m := h.minimail(t, mailServer(t, nil))
		c := m.dial(t)
		r := bufio.NewReader(c)
		line(t, r)
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		m.log.wait(t, "stopping")
		_, _ = io.WriteString(c, "QUIT\r\n")
		if got := line(t, r); !strings.HasPrefix(got, "221 ") {
			t.Errorf("the client got %q", got)
		}
		if got := m.end(t, 0); got != 0 {
			t.Errorf("exit status %d", got)
		}
	})
	t.Run("with a client that does not finish", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		m := h.minimail(t, mailServer(t, nil), "--drain", "1s")
		c := m.dial(t)
		r := bufio.NewReader(c)
		line(t, r)
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		if got := line(t, r); !strings.HasPrefix(got, "421 ") || !strings.Contains(got, "stopping") {
			t.Errorf("the client got %q", got)
		}
		c.Close()
		m.end(t, 0)
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		m := h.minimail(t, mailServer(t, nil), "--drain", "1h")
		line(t, bufio.NewReader(m.dial(t)))
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		m.log.wait(t, "stopping")
		if got := m.end(t, syscall.SIGTERM); got != exitFailure {
			t.Errorf("exit status %d", got)
		}
		m.nobodyLeft(t)
	})
}

// A frozen ssh is as deaf to TERM as can be.
func TestFault22SSHIsDeafToTERM(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--idle", "1s")
	m.greets(t)
	_ = syscall.Kill(m.theSSH(t), syscall.SIGSTOP)
	m.log.wait(t, "killing ssh")
	m.down(t)
	m.greets(t)
	if m.log.has("ended by itself") {
		t.Error("the end of the first tunnel was taken for a fault")
	}
}
