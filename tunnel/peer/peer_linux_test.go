//go:build linux

package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"minimail/tunnel"
)

// families are where ssh may listen; a machine may lack one of them.
var families = []string{"tcp4", "tcp6"}

var loopbackOf = map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}

// loopbackPair is a connection within this process: the client's end, and what
// the server gets from accept.
func loopbackPair(t *testing.T, network string) (client, server *net.TCPConn) {
	t.Helper()
	client, accept := unaccepted(t, network)
	return client, accept()
}

// unaccepted is a client that nobody has accepted yet, and how to do that.
func unaccepted(t *testing.T, network string) (client *net.TCPConn, accept func() *net.TCPConn) {
	t.Helper()
	l, err := net.Listen(network, loopbackOf[network])
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), func() *net.TCPConn {
		s, err := l.Accept()
		if err != nil {
			t.Error(err)
			return nil
		}
		t.Cleanup(func() { s.Close() })
		return s.(*net.TCPConn)
	}
}

func TestANearEndOfOurOwnUserIsTrusted(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			client, _ := loopbackPair(t, network)
			if err := Trust(zerolog.Nop())(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNobodyIsTrustedWhileTheKernelCannotBeAsked for want of a descriptor. It
// takes them from this whole process, so it is not for t.Parallel.
func TestNobodyIsTrustedWhileTheKernelCannotBeAsked(t *testing.T) {
	client, _ := loopbackPair(t, "tcp4")
	trust := Trust(zerolog.Nop())
	kernel.mu.Lock()
	if kernel.open {
		unix.Close(kernel.fd)
		kernel.open = false
	}
	kernel.mu.Unlock()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err := trust(t.Context(), client)
	if restore := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); restore != nil {
		t.Fatal(restore)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("without descriptors: %v", err)
	}
	if err := trust(t.Context(), client); err != nil {
		t.Errorf("with descriptors again: %v", err)
	}
}

// somebodysServer is the address of a server that another user runs.
func somebodysServer(t *testing.T, network, name string) string {
	t.Helper()
	needRoot(t)
	uid := uidOf(t, name)
	cmd := exec.Command(filepath.Join(fakes, "fake-server"), network, loopbackOf[network])
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // that ends it
		_ = cmd.Wait()
	})
	s, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	return strings.TrimSpace(s)
}

func TestANearEndOfAnotherUserIsRefusedWithHisName(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			address := somebodysServer(t, network, intruder)
			c, err := net.Dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want := fmt.Sprintf("%s is held by uid %d (%s), not by our ssh", address, uidOf(t, intruder), intruder)
			if err := Trust(zerolog.Nop())(t.Context(), c); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestAConnectionThatIsNotYetAcceptedIsWaitedFor(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			client, accept := unaccepted(t, network)
			p, err := peerOf(client)
			if err != nil || p.held || p.closed {
				t.Fatalf("before it is accepted: %+v, %v", p, err)
			}
			trust := make(chan error)
			go func() { trust <- Trust(zerolog.Nop())(t.Context(), client) }()
			select {
			case err := <-trust:
				t.Fatalf("not waited for: %v", err)
			default:
			}
			accept()
			if err := <-trust; err != nil {
				t.Error(err)
			}
		})
	}
}

// A listener of our own may take as long as the client's patience lasts: ssh
// cannot accept while it has no descriptors left.
func TestAConnectionThatNobodyAcceptsIsWaitedFor(t *testing.T) {
	t.Parallel()
	client, _ := unaccepted(t, "tcp4")
	l, err := listenerOf(client)
	if err != nil || !l.listens || int(l.uid) != os.Getuid() {
		t.Errorf("the listener: %+v, %v", l, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(2*acceptTimeout, func() { cancel(errors.New("the client has left")) })
	if err := Trust(zerolog.Nop())(ctx, client); !errors.Is(err, tunnel.ErrDropped) || !strings.Contains(err.Error(), "the client has left") {
		t.Errorf("when it is called off: %v", err)
	}
}

func TestAConnectionThatWasClosedIsNotHeld(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			client, server := loopbackPair(t, network)
			server.Close()
			if err := Trust(zerolog.Nop())(t.Context(), client); !errors.Is(err, tunnel.ErrDropped) {
				t.Errorf("after a close: %v", err)
			}
			client, server = loopbackPair(t, network)
			_ = server.SetLinger(0)
			server.Close()
			if err := Trust(zerolog.Nop())(t.Context(), client); !errors.Is(err, tunnel.ErrDropped) {
				t.Errorf("after a reset: %v", err)
			}
		})
	}
}

func TestAUnixSocketIsTrusted(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/near")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Trust(zerolog.Nop())(t.Context(), c); err != nil {
		t.Error(err)
	}
	if _, err := peerOf(c); err == nil {
		t.Error("peerOf takes a Unix socket for a TCP connection")
	}
	if Gone(c) {
		t.Error("its client has gone")
	}
}

func TestAClientThatOnlyShutsDownItsSendingSideHasNotGone(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			client, server := loopbackPair(t, network)
			if Gone(server) {
				t.Error("gone before it did anything")
			}
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, server); err != nil { // until its end is seen
				t.Fatal(err)
			}
			if Gone(server) {
				t.Error("gone when it has only sent its last byte")
			}
			client.Close()
			if !Gone(server) {
				t.Error("not gone when it has closed")
			}
		})
	}
}

func TestAClientThatClosedOrWasResetHasGone(t *testing.T) {
	for _, network := range families {
		t.Run(network, func(t *testing.T) {
			for _, linger := range []int{-1, 0} {
				client, server := loopbackPair(t, network)
				if err := client.SetLinger(linger); err != nil {
					t.Fatal(err)
				}
				client.Close()
				if !Gone(server) {
					t.Errorf("linger %d: not gone", linger)
				}
			}
		})
	}
}

// remoteConn is a connection whose other end is on another machine.
type remoteConn struct{ *net.TCPConn }

func (remoteConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234}
}

func TestAClientOnAnotherMachineIsNeverTakenForGone(t *testing.T) {
	client, server := loopbackPair(t, "tcp4")
	client.Close()
	if Gone(remoteConn{server}) {
		t.Error("gone, as the kernel knows no such socket")
	}
}

func TestAnAnswerThatDoesNotTellIsAnError(t *testing.T) {
	refused := make([]byte, headerSize+20)
	binary.NativeEndian.PutUint16(refused[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(refused[headerSize:], ^uint32(unix.EPERM)+1)
	if _, err := diagReply(refused); !errors.Is(err, unix.EPERM) {
		t.Errorf("a refusal: %v", err)
	}
	for n := range replyInode + 4 {
		if p, err := diagReply(make([]byte, n)); err == nil {
			t.Errorf("%d bytes tell %+v", n, p)
		}
	}
}

func TestAUserWithoutANameIsCalledByNumber(t *testing.T) {
	if got := called(4294967290); got != "" {
		t.Errorf("uid 4294967290 is called %q", got)
	}
	if got := called(uint32(os.Getuid())); !strings.HasPrefix(got, " (") {
		t.Errorf("our own user is called %q", got)
	}
}

func TestAnswersOfTheKernelAreNotMixedUp(t *testing.T) {
	ours, _ := loopbackPair(t, "tcp4")
	theirs, err := net.Dial("tcp4", somebodysServer(t, "tcp4", intruder))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	trust := Trust(zerolog.Nop())
	if err := trust(t.Context(), theirs); err == nil {
		t.Fatal("a stranger is trusted")
	}

	t.Run("when they come late", func(t *testing.T) {
		local, remote := ours.LocalAddr().(*net.TCPAddr), ours.RemoteAddr().(*net.TCPAddr)
		kernel.mu.Lock()
		err := unix.Sendto(kernel.fd, diagRequest(remote, local), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		kernel.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := trust(t.Context(), theirs); err == nil {
			t.Error("an earlier answer, about a connection of ours, was taken for the stranger's")
		}
	})
	t.Run("when many ask", func(t *testing.T) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					if err := trust(t.Context(), ours); err != nil {
						t.Errorf("ours: %v", err)
					}
					if err := trust(t.Context(), theirs); err == nil {
						t.Error("a stranger is trusted")
					}
				}
			})
		}
		all.Wait()
	})
}

// A wrapper may put ssh into a group of its own. What is older than the launch
// is not its.
func TestAnSSHThatIsOlderThanTheLaunchIsAnothers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(fakes, "fake-server"), filepath.Join(dir, "ssh")); err != nil {
		t.Fatal(err)
	}
	start := func(cmd *exec.Cmd) int {
		t.Helper()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	// The kernel counts starts in hundredths of a second.
	later := func(than int) int {
		for {
			if pid := start(exec.Command("sleep", "1000")); ProcessOf(pid).Began > ProcessOf(than).Began {
				return pid
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	launch := start(exec.Command("sleep", "1000"))
	ssh := &exec.Cmd{Path: filepath.Join(dir, "ssh"), Args: []string{"fake-server", "tcp4", "127.0.0.1:0"}}
	stdin, err := ssh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := ssh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pid := start(ssh)
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, test := range map[string]struct {
		launched int
		another  bool
	}{
		"the launch":                       {pid, false},
		"a launch before":                  {launch, false},
		"a launch after":                   {later(pid), true},
		"a launch that has gone meanwhile": {1 << 30, false},
	} {
		if err := Owns(c, test.launched); (err != nil) != test.another {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A kernel without tcp_diag says of each socket that there is none.
func TestAKernelThatKnowsOfNoSocketIsNotBelieved(t *testing.T) {
	client, _ := loopbackPair(t, "tcp4")
	request := diagRequest(client.RemoteAddr().(*net.TCPAddr), client.LocalAddr().(*net.TCPAddr))
	nobody := diagRequest(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})

	var o oracle
	if p, err := o.diagnose(nobody); err != nil || !p.closed || !o.tells {
		t.Errorf("this kernel: %+v, %v, tells: %v", p, err, o.tells)
	}
	// The answers about a family that has no such module are the same.
	deaf := oracle{alter: func(question []byte) { question[headerSize] = unix.AF_APPLETALK }}
	if p, err := deaf.diagnose(request); !errors.Is(err, errNoDiag) {
		t.Errorf("one without tcp_diag: %+v, %v", p, err)
	}
}
