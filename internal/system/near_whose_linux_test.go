package system

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

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
