package system

import (
	"bufio"
	"errors"
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

// wrongServer is a mail server that no client of ours may talk to.
func wrongServer(t *testing.T) string {
	return testbed.Listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 the wrong one\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
}

// leaveOver has an ssh of minimail's user go into the background, with a forward
// of its own. It returns how to end it.
func leaveOver(t *testing.T, h *testbed.Host, near, far string) (end func()) {
	t.Helper()
	forward := near + ":" + far
	testbed.Run(t, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups", "ssh", "-f", "-N",
		"-F", h.Path("ssh_config"), "-o", "StreamLocalBindUnlink=yes", "-o", "ExitOnForwardFailure=yes", "-L", forward, "far")
	end = func() {
		for _, pid := range testbed.CommandsWith("-L\x00" + forward + "\x00far") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	t.Cleanup(end)
	return end
}

// nearAt has m use another near end.
func nearAt(m *testbed.Minimail, near string) {
	at := slices.Index(m.Cmd.Args, "--forward") + 1
	m.Cmd.Args[at] = strings.Replace(m.Cmd.Args[at], strconv.Itoa(m.Near), near, 1)
}

// TestALeftOverSSHIsNeverUsed: it listens, and answers, and a new launch of ours
// has it in its way; at the first try, and at each that follows.
func TestALeftOverSSHIsNeverUsed(t *testing.T) {
	tries := testbed.Long(5, 200)
	t.Run("port", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "400ms")
		end := leaveOver(t, h, strconv.Itoa(m.Near), wrongServer(t))
		m.Start(t)
		for range tries {
			if got := m.Greeting(t); !strings.HasPrefix(got, "421 ") || !regexp.MustCompile(`(belongs to another|is held by) ssh, pid \d+`).MatchString(got) {
				t.Fatalf("a client got %q", got)
			}
			m.Forgets(t)
		}
		end()
		m.Serves(t)
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Prepare(t, testbed.MailServer(t, nil))
		dir := testbed.PublicDir(t)
		testbed.GiveTo(t, dir, testbed.RunAs)
		near, wrong := filepath.Join(dir, "near"), wrongServer(t)
		nearAt(m, near)
		m.Start(t)
		for range tries { // ours takes the path from it each time
			end := leaveOver(t, h, near, wrong)
			if got := m.Greeting(t); !strings.HasPrefix(got, "220 far.test") {
				t.Fatalf("a client got %q", got)
			}
			m.Down(t)
			end()
		}
		m.Log.Wait(t, "a near end was not used.* is held by uid .*, to whom pid \\d+, which has ended, has left it")
	})
}

// TestAWrappersSSHThatOutlivesMinimailIsEnded: when minimail is killed, the kernel
// ends only what minimail has started itself.
func TestAWrappersSSHThatOutlivesMinimailIsEnded(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	wrapper := filepath.Join(testbed.PublicDir(t), "wrapper")
	testbed.Write(t, wrapper, "#!/bin/sh\n/usr/bin/ssh \"$@\"\n")
	if err := os.Chmod(wrapper, 0o755); err != nil {
		t.Fatal(err)
	}
	far := testbed.MailServer(t, nil)
	m := h.Prepare(t, far, "--ssh", wrapper, "--idle", "1h")
	near := m.Near
	m.Start(t)
	m.Greets(t)
	if len(m.SSH()) != 2 {
		t.Fatalf("the wrapper and ssh: %v", m.SSH())
	}
	_ = m.Cmd.Process.Kill()
	testbed.Eventually(t, "only ssh is left", func() bool { return len(m.SSH()) == 1 })
	before := m.SSH()[0]

	next := h.Prepare(t, far, "--ssh", wrapper)
	next.Cmd.Args[slices.Index(next.Cmd.Args, "--forward")+1] = fmt.Sprintf("%d:%d:%s", next.Port, near, far)
	next.Start(t)
	next.Serves(t)
	next.Log.Wait(t, fmt.Sprintf("pid %d, .*left behind by an earlier launch", before))
	if slices.Contains(m.SSH(), before) {
		t.Error("the old ssh still runs")
	}
}

// evil is a role of this test's binary, played by another user.
func evil(t *testing.T, role string, args ...string) *spy {
	t.Helper()
	s := intrude(t, 0, nil)
	s.cmd.Args = append(s.cmd.Args[:1], args...)
	s.cmd.Env = append(os.Environ(), "TEST_ROLE="+role)
	return s
}

func init() {
	testbed.Roles["socket spy"] = spyAtSocket
	testbed.Roles["full spy"] = fillQueue
	testbed.Roles["binder"] = bindOnly
	testbed.Roles["impostor"] = impersonate
}

// TestASocketOfAnotherUsersIsNeverUsed: he may write into its directory.
func TestASocketOfAnotherUsersIsNeverUsed(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"and may remove ours": 0o777, "and may not": 0o777 | os.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "1s")
			dir := testbed.PublicDir(t)
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			near := filepath.Join(dir, "near")
			nearAt(m, near)
			s := evil(t, "socket spy", near)
			s.start(t)
			m.Start(t)
			for range testbed.Long(5, 100) {
				c := m.Dial(t)
				_, _ = io.WriteString(c, "EHLO secret.test\r\n")
				if got := testbed.ReadLine(t, bufio.NewReader(c)); strings.HasPrefix(got, "220 spy") {
					t.Fatalf("a client got %q", got)
				}
				c.Close()
				m.Forgets(t)
			}
			if got := s.stop(); got != "" {
				t.Errorf("he has read %q", got)
			}
			m.Log.Wait(t, fmt.Sprintf(`is held by spy, pid \d+, uid %d \(%s\), not by our ssh`, testbed.UidOf(t, testbed.Intruder), testbed.Intruder))
		})
	}
}

// spyAtSocket puts a socket of its own at a path, again and again, and prints what
// it is sent.
func spyAtSocket(args []string) int {
	at := args[0] + ".spy"
	l, err := net.Listen("unix", at)
	if err == nil {
		err = errors.Join(os.Chmod(at, 0o777), os.Link(at, args[0]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go testbed.AcceptAll(l, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 spy\r\n")
		_, _ = io.Copy(os.Stdout, c)
	})
	fmt.Fprintln(os.Stderr, "listening")
	for i := 0; ; i++ {
		time.Sleep(time.Duration(i%7) * time.Millisecond) // so that ssh has it now and then
		if os.Link(at, at+".new") == nil {
			_ = os.Rename(at+".new", args[0])
			_ = os.Remove(at + ".new") // it is the same file already
		}
	}
}

// TestAQueueOfAnotherUsersThatIsFullDelaysNobody: the other address is tried.
func TestAQueueOfAnotherUsersThatIsFullDelaysNobody(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "10s")
	evil(t, "full spy", strconv.Itoa(m.Near)).start(t)
	m.Start(t)
	m.Greets(t)
	m.Log.Wait(t, fmt.Sprintf(`127\.0\.0\.1:%d is held by uid %d \(%s\)`, m.Near, testbed.UidOf(t, testbed.Intruder), testbed.Intruder))
}

// fillQueue listens at a port, and fills its queue, so that further connections
// hang.
func fillQueue(args []string) int {
	port, _ := strconv.Atoi(args[0])
	at := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, at), unix.Listen(fd, 0))
	}
	for range 3 {
		c, e := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err = errors.Join(err, e); err == nil {
			_ = unix.Connect(c, at)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "listening")
	return testbed.Stay()
}

// TestWhoOnlyBindsTheNearEndsPortIsNamed: he keeps ssh from listening, and does
// not listen himself.
func TestWhoOnlyBindsTheNearEndsPortIsNamed(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "3s")
	s := evil(t, "binder", strconv.Itoa(m.Near))
	s.start(t)
	c := checkOf(t, m)
	c.exits(t, 2)
	who, mend := "somebody of whom the kernel does not tell", "--forward "
	if tellsOfBound(t) {
		who = fmt.Sprintf(`spy, pid %d, uid %d \(%s\)`, s.cmd.Process.Pid, testbed.UidOf(t, testbed.Intruder), testbed.Intruder)
		mend = fmt.Sprintf("sudo kill %d", s.cmd.Process.Pid)
	}
	c.says(t, "FAIL", "tunnel", fmt.Sprintf(`127\.0\.0\.1:%d is held by %s, and nobody listens there`, m.Near, who), mend)
	m.Start(t)
	if !tellsOfBound(t) {
		who = "Address already in use"
	}
	m.Refuses(t, fmt.Sprintf(`ssh cannot listen on %d, .*(uid %d \(%s\)|%s)`, m.Near, testbed.UidOf(t, testbed.Intruder), testbed.Intruder, who))
	s.stop()
	m.Serves(t)
}

// tellsOfBound reports whether this kernel tells of sockets that are only bound
// (Linux 6.8).
func tellsOfBound(t *testing.T) bool {
	var major, minor int
	if _, err := fmt.Sscanf(testbed.Read(t, "/proc/sys/kernel/osrelease"), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 8
}

func bindOnly(args []string) int {
	port, _ := strconv.Atoi(args[0])
	for family, at := range map[int]unix.Sockaddr{
		unix.AF_INET:  &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}},
		unix.AF_INET6: &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}},
	} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Bind(fd, at)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Fprintln(os.Stderr, "listening")
	return testbed.Stay()
}

// TestAnAnswerThatComesLateIsNotAboutAnotherConnection: another user greets, resets
// the connection, lets ssh have the port, and connects from where the client of
// the near end was, all while the kernel's answer is on its way (strace delays it).
func TestAnAnswerThatComesLateIsNotAboutAnotherConnection(t *testing.T) {
	t.Parallel()
	testbed.NeedProgram(t, "strace")
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "20s")
	s := evil(t, "impostor", strconv.Itoa(m.Near))
	s.start(t)
	m.Start(t)
	delay(t, m.Cmd.Process.Pid)
	c := m.Dial(t)
	_, _ = io.WriteString(c, "EHLO secret.test\r\nMAIL FROM:<a@secret.test>\r\n")
	got, _ := io.ReadAll(io.LimitReader(c, 8))
	c.Close()
	if strings.Contains(string(got), "evil") {
		t.Errorf("the client got %q", got)
	}
	if got := s.stop(); got != "" {
		t.Errorf("he has read %q", got)
	}
}

// delay has all answers of the kernel's to a process come late, until the test ends.
func delay(t *testing.T, pid int) {
	t.Helper()
	strace := exec.Command("strace", "-f", "-p", strconv.Itoa(pid), "-e", "trace=recvfrom", "-e", "inject=recvfrom:delay_exit=1000000")
	said := new(testbed.Words)
	strace.Stderr = said
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = strace.Process.Signal(syscall.SIGINT) // it lets go
		_ = strace.Wait()
	})
	said.Wait(t, "attached")
}

// impersonate listens at a port, plays a mail server that takes everything, and
// hangs up; then it leaves the port to ssh and connects to it from where it was
// connected to.
func impersonate(args []string) int {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "listening")
	c, err := l.Accept()
	l.Close()
	if err != nil {
		return 1
	}
	_, _ = io.WriteString(c, "220 evil\r\n250 evil\r\n250 evil\r\n")
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	d := net.Dialer{LocalAddr: c.RemoteAddr(), Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	for {
		if again, err := d.Dial("tcp", l.Addr().String()); err == nil {
			_, _ = io.Copy(io.Discard, again)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestAUserWhoCannotBeToldFromOthersIsRefused: in a user namespace all users that
// it has no place for are nobody.
func TestAUserWhoCannotBeToldFromOthersIsRefused(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	uid := testbed.UidOf(t, testbed.RunAs)
	if strings.TrimSpace(testbed.Read(t, "/proc/sys/kernel/overflowuid")) != strconv.Itoa(uid) {
		t.Skip("here that is somebody else")
	}
	pidFile := filepath.Join(testbed.PublicDir(t), "pid")
	testbed.GiveTo(t, filepath.Dir(pidFile), testbed.RunAs)
	for _, words := range [][]string{{"start", "-X"}, {"check"}} {
		cmd := exec.Command(testbed.Program, append(words, "--settings", os.DevNull, "--host", "far", "--pid-file", pidFile,
			"--forward", fmt.Sprintf("%d:%d:localhost:25", testbed.FreePort(t), testbed.FreePort(t)))...)
		only := []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: only, GidMappings: only,
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true},
		}
		out, err := cmd.CombinedOutput()
		if want := fmt.Sprintf("cannot be uid %d in a user namespace", uid); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", words, err, out)
		}
	}
}

// TestADirectoryWhereOthersMayWriteIsNamed: their socket there reads nothing, but
// keeps mail from leaving.
func TestADirectoryWhereOthersMayWriteIsNamed(t *testing.T) {
	t.Parallel()
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	for name, mode := range map[string]os.FileMode{"others can change": 0o777, "others can write into": 0o777 | os.ModeSticky} {
		m := h.Prepare(t, far)
		dir := filepath.Join(testbed.PublicDir(t), "shared")
		testbed.Run(t, "install", "-d", "-m", "700", "-o", testbed.RunAs, dir)
		near := filepath.Join(dir, "near")
		nearAt(m, near)
		log := filepath.Join(testbed.PublicDir(t), "log")
		start := func() string {
			t.Helper()
			words := slices.Insert(slices.Clone(m.Cmd.Args[2:]), 0, "start", "--log-file", log)
			out := testbed.Run(t, testbed.Program, words...)
			testbed.Run(t, testbed.Program, "stop", "--settings", os.DevNull, "--pid-file", m.Pid)
			return out
		}
		checkOf(t, m).isWell(t)
		if out := start(); strings.Contains(out, "warning") {
			t.Errorf("start warns of a directory of one's own: %s", out)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		c := checkOf(t, m)
		c.exits(t, 1)
		c.says(t, "WARN", "tunnel", fmt.Sprintf("%s %s: they can keep mail from leaving by a socket of their own in place of %s", name, q(dir), q(near)), "")
		if out, want := start(), fmt.Sprintf("minimail: warning: %s %s: they can keep mail from leaving", name, dir); !strings.Contains(out, want) {
			t.Errorf("start says %q, not %q", out, want)
		}
		if got := testbed.Read(t, log); !strings.Contains(got, "WRN "+name) {
			t.Errorf("the log has no warning:\n%s", got)
		}
	}
}

// TestTheForwardOfAJumpHostIsNotTakenForOurs: what brings ssh to its host may be an
// ssh with a forward of its own, at the same port and sooner.
func TestTheForwardOfAJumpHostIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "3s")
	h.Configure(t, fmt.Sprintf("ProxyCommand ssh -F %s -o ClearAllForwardings=no -W 127.0.0.1:%d jump", h.Path("ssh_config"), h.Port))
	config := testbed.Read(t, h.Path("ssh_config"))
	jump := strings.NewReplacer("Host far\n", fmt.Sprintf("Host jump\nLocalForward %d %s\n", m.Near, wrongServer(t)), "ProxyCommand", "#").Replace(config)
	testbed.Write(t, h.Path("ssh_config"), config+jump)
	m.Start(t)
	m.Refuses(t, "(belongs to another|is held by) ssh, pid ")
}
