package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAProofIsForTheNearEndsOfACommandLine, and only a wrapper's launch can leave
// something to sweep.
func TestAProofIsForTheNearEndsOfACommandLine(t *testing.T) {
	argv := []string{"-L", "0:far:25", "-o", "LocalForward=7:far:7", "-L", "0:far:587", "far"}
	prove := Prover(slices.Concat([]string{"ssh", "-N"}, argv))
	for name, sweeps := range map[string]bool{"ssh": false, "wrapper": true} {
		p := play(t, fake(name, argv...))
		proof := prove(p.pid())
		if err := proof.Listens("tcp", p.at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := proof.Leads(t.Context(), dial(t, "tcp", p.at), p.at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, port, _ := net.SplitHostPort(p.at)
		if who := proof.Holder(port); who != "" {
			t.Errorf("%s is in its own way: %s", name, who)
		}
		if (proof.Sweep != nil) != sweeps {
			t.Errorf("%s: what it has left is swept: %v", name, !sweeps)
		}
	}

	// Each near end counts.
	both := []string{"-L", "0:far:25", "-L", "0:far:587"}
	for _, more := range [][]string{both, {"-L", "0:far:25"}, {"-L", "0:far:587", "-o", "far"}, {"-L", "0:far:25", "-L", "1:far:587"}} {
		cmd := fake("ssh", more...)
		cmd.Env = append(os.Environ(), Mark())
		p := play(t, cmd)
		l := prove(os.Getpid())
		if err := l.Listens("tcp", p.at); (err == nil) != slices.Equal(more, both) {
			t.Errorf("%q: %v", more, err)
		}
	}
}

func init() { roles["wrapper"] = playSSH }

// TestAStrangerIsNamedAsFarAsHeIsKnown, and is not ended.
func TestAStrangerIsNamedAsFarAsHeIsKnown(t *testing.T) {
	us := os.Getuid()
	who := called(us)
	of := func(name string) []Process { return []Process{{PID: strangers, Name: name}} }
	for want, at := range map[string]Listener{
		"it is held by uid 2147483640, not by our ssh":                                                                                       {UID: strangers},
		"it is held by ssh, pid 2147483640, uid 2147483640, not by our ssh":                                                                  {UID: strangers, Procs: of("ssh")},
		"it is held by nc, pid 2147483640, " + who + ", not by our ssh":                                                                      {UID: us, Procs: of("nc")},
		"it belongs to another ssh, pid 2147483640: each tunnel needs a port, or a socket, of its own":                                       {UID: us, Procs: of("ssh")},
		"cannot tell who listens at it: a process of ours that we may not look into; let TUNNEL be a Unix socket in a directory of your own": {UID: us},
	} {
		if err := this().stranger("it", at); err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestAProcessIsEndedByItsMarkAlone, and only if its pid is not another's by now.
func TestAProcessIsEndedByItsMarkAlone(t *testing.T) {
	cmd := fake("server", "tcp", "127.0.0.1:0")
	cmd.Env = []string{Mark()}
	p := play(t, cmd)
	its := ProcessOf(p.pid())
	reused, gone := its, its
	reused.Began--
	gone.PID = strangers
	all := func(string) bool { return true }
	for name, spared := range map[string]bool{
		"of a launch of the same time": its.dismiss(its),
		"of a later launch":            its.dismiss(Process{Began: its.Began - 1}),
		"another that had its pid":     reused.kill(all),
		"nobody":                       gone.kill(all),
		"of another mark":              its.kill(func(kv string) bool { return kv == Mark()+"0" }),
	} {
		if spared {
			t.Errorf("%s: ended", name)
		}
	}
	unmarked := fake("server", "tcp", "127.0.0.1:0")
	unmarked.Env = []string{"A=B"}
	if other := ProcessOf(play(t, unmarked).pid()); other.dismiss(Process{Began: other.Began + 1}) {
		t.Error("without a mark: ended")
	}
	if !its.dismiss(Process{Began: its.Began + 1}) {
		t.Error("of an earlier launch: not ended")
	}
	if _ = p.cmd.Wait(); p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended: %s", p.cmd.ProcessState)
	}
}

func TestAMarkTellsWhoHasLaunchedSomebody(t *testing.T) {
	ns := pidNamespace()
	for mark, want := range map[string]Process{
		markName + ns + " 7 5":       {PID: 7, Began: 5},
		markName + ns + " 7":         {},
		markName + ns:                {},
		markName + "pid:[1] 7 5":     {},
		ns + " 7 5":                  {},
		"X" + markName + ns + " 7 5": {},
	} {
		if got, ok := parseMark(mark); ok != (want.PID != 0) || ok && got != want {
			t.Errorf("%s: %+v, %v", mark, got, ok)
		}
	}
}

// TestAMinimailHasLaunchedItsChildrenAndWhoHasItsMark, be they detached or not.
func TestAMinimailHasLaunchedItsChildrenAndWhoHasItsMark(t *testing.T) {
	us := ProcessOf(os.Getpid())
	marked := func(mark string) Process {
		cmd := fake("server", "tcp", "127.0.0.1:0")
		cmd.Env = []string{"A=B", mark}
		return ProcessOf(play(t, cmd).pid())
	}
	detached := func(p Process) Process { p.Parent = 1; return p }
	ours := marked(Mark())
	for name, c := range map[string]struct {
		p    Process
		by   int
		want bool
	}{
		"a child":                    {marked("C=D"), us.PID, true},
		"detached":                   {detached(ours), us.PID, true},
		"another's":                  {detached(ours), strangers, false},
		"one who had our pid before": {detached(marked(fmt.Sprintf("%s%s %d %d", markName, pidNamespace(), us.PID, us.Began-1))), us.PID, false},
		"without a mark":             {detached(marked("C=D")), us.PID, false},
	} {
		if got := c.p.launchedBy(c.by); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWhoWasDetachedIsOfTheLaunchThatBeganBefore: the mark alone says only which
// minimail has launched it.
func TestWhoWasDetachedIsOfTheLaunchThatBeganBefore(t *testing.T) {
	cmd := fake("ssh", "-L", "0:far:25")
	cmd.Env = []string{Mark()}
	p := ProcessOf(play(t, cmd).pid())
	p.Parent, p.Group = 1, 1
	l := this()
	for began, want := range map[uint64]bool{l.Began - 1: false, l.Began: true, l.Began + 1: true} {
		p.Began = began
		if got := l.has(p); got != want {
			t.Errorf("%d ticks after the launch: %v", int64(began-l.Began), got)
		}
	}
}

// TestWhatIsNoTCPConnectionHasNobodyAtItsOtherEnd of whom we could tell.
func TestWhatIsNoTCPConnectionHasNobodyAtItsOtherEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "near")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, "unix", path)
	if s, err := otherEnd(c); err == nil || err.Error() != path+" is not a TCP connection" || s != (socket{}) {
		t.Errorf("%+v, %v", s, err)
	}
	if Gone(c) {
		t.Error("it has gone")
	}
	if _, ok := Owner(c); ok {
		t.Error("it has an owner")
	}
	pipe, _ := net.Pipe()
	if err := this().leads(t.Context(), pipe, "pipe"); err == nil || err.Error() != "pipe is not a TCP connection" {
		t.Errorf("a pipe: %v", err)
	}
	if err := onSocket(pipe, nil); err != errors.ErrUnsupported {
		t.Errorf("a pipe: %v", err)
	}
	if err := this().listens("tcp", "pipe"); err == nil {
		t.Error("a pipe listens")
	}

	// One end alone is not enough.
	client, _ := loopbackPair(t, "tcp4")
	if s, err := otherEnd(halfConn{client}); err == nil || err.Error() != client.RemoteAddr().String()+" is not a TCP connection" || s != (socket{}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// halfConn is a connection whose own address nobody knows.
type halfConn struct{ *net.TCPConn }

func (halfConn) LocalAddr() net.Addr { return &net.UnixAddr{} }

func TestAUnixSocketThatWasClosedLeadsNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "near")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	launch := newLaunch(os.Getpid(), nil)
	c := dial(t, "unix", path)
	if err := launch.leads(t.Context(), c, path); err != nil {
		t.Error(err)
	}
	c.Close()
	err = launch.leads(t.Context(), c, path)
	if !errors.Is(err, net.ErrClosed) || err.Error() != cannotTell(path, errors.Unwrap(err)).Error() {
		t.Errorf("%v", err)
	}
	if hasPeer(-1) {
		t.Error("no socket has a peer")
	}
}

func TestASocketHasAnOwnerOrWaitsForOneInTheKernelsStates(t *testing.T) {
	waiting := map[int]bool{unix.BPF_TCP_ESTABLISHED: true, unix.BPF_TCP_SYN_RECV: true}
	for state := unix.BPF_TCP_ESTABLISHED; state <= unix.BPF_TCP_NEW_SYN_RECV; state++ {
		ownerless, owned := socket{state: state}, socket{state: state, inode: 1}
		got := []bool{ownerless.waits(), owned.waits(), ownerless.held(), owned.held(), owned.listens()}
		if want := []bool{waiting[state], false, false, state != unix.BPF_TCP_LISTEN, state == unix.BPF_TCP_LISTEN}; !reflect.DeepEqual(got, want) {
			t.Errorf("state %d: %v, want %v", state, got, want)
		}
	}
}
