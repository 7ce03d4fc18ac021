package serve

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/testbed"
)

func TestAPortThatCannotBeHadHasACure(t *testing.T) {
	f := forward.Spec{Port: 25, Near: "1025", Far: "localhost:25"}
	at := &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25}, Err: nil}
	for errno, c := range map[syscall.Errno]struct {
		why, hint string
		status    int
	}{
		syscall.EADDRNOTAVAIL: {"cannot assign requested address", "ip address # lists this machine's: one of them has to be the BIND of --forward", fail.Failure},
		syscall.EIO:           {"input/output error", "", fail.Failure},
		syscall.EACCES:        {"permission denied", map[bool]string{true: "", false: "run it with sudo, or with --forward 2525:1025:localhost:25"}[os.Geteuid() == 0], map[bool]int{true: fail.Failure, false: fail.NeedsRoot}[os.Geteuid() == 0]},
	} {
		at.Err = os.NewSyscallError("bind", errno)
		err := bindError(f, at)
		if err.Error() != "cannot listen on 127.0.0.1:25: "+c.why || fail.HintOf(err) != c.hint || fail.Status(err) != c.status {
			t.Errorf("%v, hint %q, status %d; want %+v", err, fail.HintOf(err), fail.Status(err), c)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0") // ours
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	f.Port = port
	at.Err = os.NewSyscallError("bind", syscall.EADDRINUSE)
	if got, want := fail.HintOf(bindError(f, at)), fmt.Sprintf("sudo ss -ltnp 'sport = :%d' # shows who has it: a mail server?", port); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := fail.HintOf(overlaps(f, []net.Listener{l}, at)); got != "minimail stop; minimail start # the one that runs has "+l.Addr().String() {
		t.Errorf("%q", got)
	}
	f.Port++
	if err := overlaps(f, []net.Listener{l}, at); err != error(at) {
		t.Errorf("another port: %v", err)
	}
	f.Port--
	if err := overlaps(f, []net.Listener{l}, syscall.EACCES); err != syscall.EACCES {
		t.Errorf("another error: %v", err)
	}
}

func TestBesideAnotherItsDoorsAreTakenOrClosed(t *testing.T) {
	var ls []net.Listener
	for range 3 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		ls = append(ls, l)
	}
	spec := func(l net.Listener) forward.Spec {
		return forward.Spec{Binds: []string{"127.0.0.1"}, Port: l.Addr().(*net.TCPAddr).Port}
	}
	theirs := []daemon.Door{{Listener: ls[0]}, {Listener: ls[1]}, {Listener: ls[2], Socket: fmt.Sprint(spec(ls[2]).Port)}}
	doors, err := bindBeside([]forward.Spec{spec(ls[0]), spec(ls[2])}, theirs)
	if err != nil || len(doors) != 2 {
		t.Fatalf("%+v, %v", doors, err)
	}
	for i, want := range []net.Listener{ls[0], ls[2]} {
		if d := doors[i]; len(d.listeners) != 1 || d.listeners[0] != want || d.passed != (i == 1) {
			t.Errorf("door %d: %+v", i, d)
		}
	}
	if err := ls[1].Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("one of a forward that there was is open: %v", err)
	}
	for i, l := range []net.Listener{ls[0], ls[2]} {
		if err := l.Close(); err != nil {
			t.Errorf("door %d is closed: %v", i, err)
		}
	}
	_, err = bindBeside(nil, []daemon.Door{{Listener: ls[0], Socket: "2"}})
	if err == nil || err.Error() != "the service manager has bound port 2, and no --forward has that PORT" || fail.HintOf(err) != "sudo systemctl restart minimail" {
		t.Errorf("%v, hint %q", err, fail.HintOf(err))
	}
}

// TestAnotherMinimailAtAPortIsNamed: it is the same program.
func TestAnotherMinimailAtAPortIsNamed(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "tcp4", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TEST_ROLE=fake-server")
	stdin, at, err := testbed.StartAndHear(t, cmd)
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	f := forward.Spec{Binds: []string{"127.0.0.1"}}
	f.Port, _ = strconv.Atoi(port)
	_, err = bind([]forward.Spec{f}, nil)
	if err == nil || err.Error() != "cannot listen on 127.0.0.1:"+port+": address already in use" {
		t.Error(err)
	}
	pid := cmd.Process.Pid
	if got, want := fail.HintOf(err), fmt.Sprintf("kill %d # another minimail, pid %d, serves there", pid, pid); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
