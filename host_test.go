package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The accounts of the tests, which every Debian has: whom minimail becomes,
// whom it logs in as, and who must not read its mail.
const (
	runAs    = "nobody"
	loginAs  = "games"
	intruder = "daemon"
)

// patience is how long a test waits for something that should come soon.
const patience = 20 * time.Second

// A host is a real sshd on a loopback port, with all that ssh needs to log in
// there, in a directory of its own.
type host struct {
	dir  string
	port int
	sshd *exec.Cmd
	log  *words
}

// newHost starts an sshd, with extra lines in its configuration.
func newHost(t *testing.T, extra ...string) *host {
	t.Helper()
	needRoot(t)
	h := &host{dir: publicDir(t), port: freePort(t)}
	for _, key := range []string{"key", "hostkey", "otherkey"} {
		command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", h.path(key))
	}
	giveTo(t, h.path("key"), runAs)
	giveTo(t, h.path("otherkey"), runAs)
	write(t, h.path("sshd_config"), strings.Join(append(extra,
		"Port "+strconv.Itoa(h.port),
		"ListenAddress 127.0.0.1",
		"HostKey "+h.path("hostkey"),
		"AuthorizedKeysFile "+h.path("key.pub"),
		"StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "MaxStartups 1000", "",
	), "\n"))
	h.trust(t, "hostkey.pub")
	h.configure(t)
	h.start(t)
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// trust makes a host key the known one.
func (h *host) trust(t *testing.T, pub string) {
	t.Helper()
	key := strings.Fields(read(t, h.path(pub)))
	write(t, h.path("known_hosts"), fmt.Sprintf("[127.0.0.1]:%d %s %s\n", h.port, key[0], key[1]))
}

// configure writes the ssh_config: Host far, with lines that come first.
func (h *host) configure(t *testing.T, lines ...string) {
	t.Helper()
	write(t, h.path("ssh_config"), "Host far\n"+strings.Join(append(lines,
		"HostName 127.0.0.1",
		"Port "+strconv.Itoa(h.port),
		"User "+loginAs,
		"IdentityFile "+h.path("key"),
		"IdentitiesOnly yes",
		"UserKnownHostsFile "+h.path("known_hosts"),
		"GlobalKnownHostsFile /dev/null",
		"",
	), "\n"))
}

// slowly is a line for configure that makes logins take a second longer.
func (h *host) slowly() string {
	return fmt.Sprintf("ProxyCommand sh -c 'sleep 1; exec nc 127.0.0.1 %d'", h.port)
}

// start runs sshd until the test ends, or stop is called.
func (h *host) start(t *testing.T) {
	t.Helper()
	h.startAt(t, "127.0.0.1")
}

func (h *host) startAt(t *testing.T, address string) {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Fatal(err)
	}
	h.log = new(words)
	h.sshd = exec.Command(sshd, "-D", "-e", "-f", h.path("sshd_config"))
	h.sshd.Stderr = h.log
	if err := h.sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	h.log.wait(t, "Server listening on "+regexp.QuoteMeta(address))
}

// stop kills sshd and all its sessions.
func (h *host) stop() {
	if h.sshd == nil {
		return
	}
	for _, pid := range h.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = h.sshd.Wait()
	h.sshd = nil
}

// processes are sshd's, the listener first.
func (h *host) processes() []int { return tree(h.sshd.Process.Pid) }

// A minimail is one that runs in the foreground.
type minimail struct {
	cmd    *exec.Cmd
	port   int // where its clients go
	near   int
	log    *words
	config string
	pid    string
	exited chan struct{}
}

// minimail starts one in front of far, a HOST:PORT that h can reach, as root
// who becomes runAs. Later options win.
func (h *host) minimail(t *testing.T, far string, options ...string) *minimail {
	t.Helper()
	m := h.prepare(t, far, options...)
	m.start(t)
	return m
}

func (h *host) prepare(t *testing.T, far string, options ...string) *minimail {
	t.Helper()
	m := &minimail{port: freePort(t), near: freePort(t), config: h.path("ssh_config"), pid: filepath.Join(publicDir(t), "pid")}
	m.cmd = exec.Command(program, append([]string{"-X", "--host", "far", "--ssh-config", m.config,
		"--forward", fmt.Sprintf("%d:%d:%s", m.port, m.near, far), "--protocol", "smtp",
		"--settings", os.DevNull, "--pid-file", m.pid, "--user", runAs, "--idle", "0", "--jitter", "0"}, options...)...)
	return m
}

// start runs m until the test ends, or stop or kill is called. At its end no
// ssh of its may be left.
func (m *minimail) start(t *testing.T) {
	t.Helper()
	m.log = new(words)
	m.cmd.Stderr = m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.exited = make(chan struct{})
	go func() {
		_ = m.cmd.Wait()
		close(m.exited)
	}()
	sockets := 0
	t.Cleanup(func() {
		if !isDone(m.exited) {
			// but a duplicate of its own connection for each ssh (tunnel.acks),
			// and the one to ask the kernel (oracle)
			eventually(t, "no connection is left open", func() bool { return m.sockets() <= sockets+len(m.ssh())+1 })
		}
		m.end(t, syscall.SIGTERM)
		m.nobodyLeft(t)
		if t.Failed() {
			t.Logf("minimail's log:\n%s", m.log)
		}
	})
	m.log.wait(t, "listening")
	sockets = m.sockets()
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sockets is how many minimail has open.
func (m *minimail) sockets() int {
	n := 0
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", m.cmd.Process.Pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// end signals m and waits for its exit.
func (m *minimail) end(t *testing.T, s syscall.Signal) int {
	t.Helper()
	_ = m.cmd.Process.Signal(s)
	select {
	case <-m.exited:
	case <-time.After(patience):
		_ = m.cmd.Process.Kill()
		t.Error("minimail does not end")
		<-m.exited
	}
	return m.cmd.ProcessState.ExitCode()
}

// ssh is the pids of m's tunnels.
func (m *minimail) ssh() []int { return commandsWith("-F\x00" + m.config + "\x00-N") }

func (m *minimail) nobodyLeft(t *testing.T) {
	t.Helper()
	eventually(t, "no ssh is left", func() bool { return len(m.ssh()) == 0 })
}

// down waits until the tunnel is closed.
func (m *minimail) down(t *testing.T) {
	t.Helper()
	m.nobodyLeft(t)
}

// theSSH waits until there is one ssh, and returns its pid.
func (m *minimail) theSSH(t *testing.T) int {
	t.Helper()
	var pids []int
	eventually(t, "one ssh runs", func() bool { pids = m.ssh(); return len(pids) == 1 })
	return pids[0]
}

func (m *minimail) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	return c.(*net.TCPConn)
}

// greeting is the first line that a new client gets; the client then leaves.
func (m *minimail) greeting(t *testing.T) string {
	t.Helper()
	c := m.dial(t)
	defer c.Close()
	return line(t, bufio.NewReader(c))
}

// greets fails the test unless a new client is served.
func (m *minimail) greets(t *testing.T) {
	t.Helper()
	if got := m.greeting(t); !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeting %q, want the far server's 220", got)
	}
}

// serves fails the test unless a new client is served, now or when those
// before it have been told 421: a back-off that is on has to pass first.
func (m *minimail) serves(t *testing.T) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); {
		if got = m.greeting(t); !strings.HasPrefix(got, "421 ") {
			break
		}
	}
	if !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeting %q, want the far server's 220", got)
	}
}

// refuses fails the test unless a new client gets a 421 that matches re.
func (m *minimail) refuses(t *testing.T, re string) {
	t.Helper()
	got := m.greeting(t)
	if !regexp.MustCompile(`^421 \S+ minimail: .*` + re).MatchString(got) {
		t.Fatalf("greeting %q, want a 421 that matches %q", got, re)
	}
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("read %q and then %v, want a line", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// words is what a process says, for others to wait for.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func (w *words) has(re string) bool { return regexp.MustCompile(re).MatchString(w.String()) }

func (w *words) count(re string) int {
	return len(regexp.MustCompile(re).FindAllString(w.String(), -1))
}

func (w *words) wait(t *testing.T, re string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !w.has(re) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not said within %s, but:\n%s", re, patience, w)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
}

// publicDir is a temporary directory that other users may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// freePort is one that nobody listens on. It is below the range from which the
// kernel takes ports by itself, or somebody else's connection might get it.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10000 + int(portSeed.next())%20000
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// portSeed makes ports that no other test of this run has got.
var portSeed = &sequence{n: uint32(os.Getpid()) * 7919}

type sequence struct {
	mu sync.Mutex
	n  uint32
}

func (s *sequence) next() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += 17
	return s.n
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func giveTo(t *testing.T, path, name string) {
	t.Helper()
	if err := os.Chown(path, uidOf(t, name), -1); err != nil {
		t.Fatal(err)
	}
}

func uidOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// tree is pid and its descendants.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, f := range tasks {
			b, _ := os.ReadFile(f)
			for _, child := range strings.Fields(string(b)) {
				n, _ := strconv.Atoi(child)
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// commandsWith finds processes, zombies aside, whose arguments, NULs between
// them, contain s.
func commandsWith(s string) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), s) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// listen calls serve with each connection to a loopback port, whose address it
// returns, until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go acceptAll(l, serve)
	return l.Addr().String()
}

// acceptAll calls serve with each connection, until l is closed.
func acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

// mailServer speaks just enough SMTP, and hands every mail that it accepts to
// got, which may be nil.
func mailServer(t *testing.T, got func(mail string)) string {
	return listen(t, func(c net.Conn) { speakSMTP(c, got) })
}

func speakSMTP(c net.Conn, got func(mail string)) {
	r := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 far.test ESMTP")
	var mail strings.Builder
	for data := false; ; {
		s, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.TrimSpace(s))
		switch {
		case data && s == ".\r\n":
			if got != nil {
				got(mail.String())
			}
			data = false
			mail.Reset()
			say("250 accepted")
		case data:
			mail.WriteString(s)
		case verb == "DATA":
			data = true
			say("354 go on")
		case verb == "QUIT":
			say("221 bye")
			return
		case strings.HasPrefix(verb, "EHLO"):
			say("250-far.test\r\n250 PIPELINING")
		default:
			say("250 ok")
		}
	}
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// expand replaces pairs in lines.
func expand(lines []string, pairs ...string) []string {
	return strings.Split(strings.NewReplacer(pairs...).Replace(strings.Join(lines, "\n")), "\n")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// wildcardListener is the address of a listener at port that other machines
// can reach, or "".
func wildcardListener(t *testing.T, port int) string {
	t.Helper()
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, l := range strings.Split(read(t, f), "\n") {
			fields := strings.Fields(l)
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) &&
				strings.Trim(strings.Split(fields[1], ":")[0], "0") == "" {
				return fields[1]
			}
		}
	}
	return ""
}

// session is the pids of a session, by its leader's pid, zombies aside.
func session(leader int) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 3 && fields[0] != "Z" && fields[3] == strconv.Itoa(leader) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}
