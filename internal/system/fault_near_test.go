package system

import (
	"bufio"
	"context"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

// TestAnIntruderNeverReadsAByte: another user races ssh for the near end, again
// and again, with all that the socket options give.
func TestAnIntruderNeverReadsAByte(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	// The fake logs in at once, so there are enough rounds.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ssh := filepath.Join(testbed.PublicDir(t), "ssh")
	testbed.Run(t, "cp", self, ssh)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--ssh", ssh, "--wait", "150ms")
	m.Cmd.Env = append(os.Environ(), "TEST_ROLE=ssh")
	s := intrude(t, m.Near, []string{"127.0.0.1", "::1"})
	s.cmd.Env = append(os.Environ(), "TEST_ROLE=racer")
	s.start(t)
	m.Start(t)
	stop := forgetting(m)
	defer stop()
	served := 0
	mails := testbed.Long(200, 10_000)
	for range mails {
		c := m.Dial(t)
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
		testbed.Eventually(t, "the port is free again, for whoever is quicker", func() bool {
			left := m.SSH()
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return len(left) == 0
		})
	}
	if got := s.stop(); got != "" {
		t.Errorf("the intruder has read %q", got)
	}
	m.Log.Wait(t, fmt.Sprintf(`is held by uid %d`, testbed.UidOf(t, testbed.Intruder)))
	t.Logf("%d of %d clients were served all the same", served, mails)
}

// forgetting has m forget its back-off all the time, until stop is called: launch
// may follow upon launch.
func forgetting(m *testbed.Minimail) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = m.Cmd.Process.Signal(syscall.SIGHUP)
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }
}

func init() { testbed.Roles["racer"] = race }

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
			h := testbed.NewHost(t)
			wait := map[bool]string{true: "60s", false: "30s"}[c.served] // who is not, waits so long
			m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", wait)
			spy := intrude(t, m.Near, c.hosts)
			if c.deaf {
				spy.cmd.Env = append(os.Environ(), "TEST_ROLE=deaf spy")
			}
			if c.during {
				h.Configure(t, h.After(h.Path("spied"))...)
			} else {
				spy.start(t)
			}
			m.Start(t)
			client := m.Dial(t)
			_, _ = io.WriteString(client, "EHLO secret.test\r\n")
			if c.during {
				m.TheSSH(t)
				spy.start(t)
				testbed.Write(t, h.Path("spied"), "")
			}
			got := testbed.ReadLine(t, bufio.NewReader(client))
			if want := map[bool]string{true: "220 ", false: "421 "}[c.served]; !strings.HasPrefix(got, want) {
				t.Errorf("the client got %q, want %s", got, want)
			}
			if !c.served && !strings.Contains(got, strconv.Itoa(m.Near)) {
				t.Errorf("the client got %q, which does not name the near end", got)
			}
			client.Close()
			if c.hosts[0] == "127.0.0.1" {
				m.Log.Wait(t, fmt.Sprintf(`is held by uid %d \(%s\)`, testbed.UidOf(t, testbed.Intruder), testbed.Intruder))
			}
			if got := spy.stop(); got != "" {
				t.Errorf("the intruder has read %q", got)
			}
			m.Serves(t)
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
	copyOf := filepath.Join(testbed.PublicDir(t), "spy") // the test binary's own place is private
	testbed.Run(t, "cp", self, copyOf)
	s := &spy{cmd: exec.Command(copyOf, append([]string{strconv.Itoa(port)}, hosts...)...)}
	s.cmd.Env = append(os.Environ(), "TEST_ROLE=spy")
	uid := uint32(testbed.UidOf(t, testbed.Intruder))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return s
}

// start returns when the spy listens.
func (s *spy) start(t *testing.T) {
	t.Helper()
	said := new(testbed.Words)
	s.cmd.Stderr = said
	heard := new(testbed.Words)
	s.cmd.Stdout = heard
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })
	said.Wait(t, "listening")
}

// stop ends the spy and returns what it has read.
func (s *spy) stop() string {
	if s.cmd.ProcessState == nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	return s.cmd.Stdout.(*testbed.Words).String()
}

func init() {
	testbed.Roles["spy"] = spyOn
	testbed.Roles["deaf spy"] = func(args []string) int {
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
	return testbed.Stay()
}

func TestFault15NearPortIsOurLeftOverSSHs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.MailServer(t, nil)
	m := h.Prepare(t, far, "--wait", "6s")
	left := exec.Command("setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups",
		"ssh", "-N", "-F", h.Path("ssh_config"), "-L", fmt.Sprintf("%d:%s", m.Near, far), "far")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = left.Process.Kill()
		_ = left.Wait()
	}()
	testbed.Eventually(t, "the left-over ssh listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.Near))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	_ = left.Process.Signal(syscall.SIGSTOP) // its host is gone, say
	m.Start(t)
	m.ComesToRefuse(t, fmt.Sprintf("ssh cannot listen on %d.*Address already in use", m.Near))
	_ = left.Process.Kill()
	m.Serves(t)
}

// Two minimails of one user, for two hosts, may have been given the same near
// end. No mail may go to the other one's host.
func TestFault15NearEndIsAnotherTunnelsOfOurs(t *testing.T) {
	for name, socket := range map[string]bool{"port": false, "socket": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var near any = testbed.FreePort(t)
			if socket {
				dir := testbed.PublicDir(t)
				testbed.GiveTo(t, dir, testbed.RunAs)
				near = filepath.Join(dir, "near")
			}
			var all [2]*testbed.Minimail
			for i := range all {
				greets := func(c net.Conn) {
					_, _ = fmt.Fprintf(c, "220 host %d\r\n", i)
					_, _ = io.Copy(io.Discard, c)
				}
				m := testbed.NewHost(t).Prepare(t, testbed.Listen(t, greets), "--wait", "20s", "--idle", "1h")
				nearAt(m, fmt.Sprint(near))
				m.Start(t)
				all[i] = m
			}
			is := func(m *testbed.Minimail, want string) {
				t.Helper()
				if got := m.Greeting(t); !regexp.MustCompile(want).MatchString(got) {
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

// nearAt has m use another near end.
func nearAt(m *testbed.Minimail, near string) {
	at := slices.Index(m.Cmd.Args, "--forward") + 1
	m.Cmd.Args[at] = strings.Replace(m.Cmd.Args[at], strconv.Itoa(m.Near), near, 1)
}
