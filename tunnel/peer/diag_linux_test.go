package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnAnswerThatDoesNotTellIsAnError(t *testing.T) {
	refused := make([]byte, headerSize+20)
	binary.NativeEndian.PutUint16(refused[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(refused[headerSize:], ^uint32(unix.EPERM)+1)
	if _, err := diagReply(refused); !errors.Is(err, unix.EPERM) {
		t.Errorf("a refusal: %v", err)
	}
	for n := range replySize {
		if s, err := diagReply(make([]byte, n)); err == nil {
			t.Errorf("%d bytes tell %+v", n, s)
		}
	}
}

// TestADumpTellsOfAllOnAPort: the kernel puts many into one message.
func TestADumpTellsOfAllOnAPort(t *testing.T) {
	fd, err := diagSocket()
	if err != nil {
		t.Skip("here we may not ask: ", err)
	}
	unix.Close(fd)
	first, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
		l, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", ip, port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	all, err := dump(port)
	all = slices.DeleteFunc(all, func(s socket) bool { return !s.listens() || int(s.at.Port()) != port })
	if err != nil || len(all) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
}

// addresses are those by which the kernel is asked for the other end of c.
func addresses(c net.Conn) (local, remote netip.AddrPort) {
	return plain(c.RemoteAddr().(*net.TCPAddr)), plain(c.LocalAddr().(*net.TCPAddr))
}

func TestAnswersOfTheKernelAreNotMixedUp(t *testing.T) {
	ours, _ := loopbackPair(t, "tcp4")
	other := play(t, as(t, intruder, fake("server", "tcp4", "127.0.0.1:0")))
	theirs := dial(t, "tcp4", other.at)
	holds := func(c net.Conn, uid int) error {
		for {
			s, err := otherEnd(c)
			switch {
			case err == nil && s.waits():
			case err != nil || s.uid != uid:
				return fmt.Errorf("%+v, %w", s, err)
			default:
				return nil
			}
		}
	}
	if err := holds(theirs, uidOf(t, intruder)); err != nil {
		t.Fatal(err)
	}

	t.Run("when they come late", func(t *testing.T) {
		kernel.mu.Lock()
		err := unix.Sendto(kernel.fd, diagRequest(addresses(ours)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		kernel.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := holds(theirs, uidOf(t, intruder)); err != nil {
			t.Errorf("an earlier answer, about a connection of ours, was taken for the stranger's: %v", err)
		}
	})
	t.Run("when many ask", func(t *testing.T) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					if err := errors.Join(holds(ours, syscall.Getuid()), holds(theirs, uidOf(t, intruder))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}

// withKernel has questions answered by another oracle.
func withKernel(t *testing.T, o *oracle) {
	t.Helper()
	kernel.mu.Lock()
	defer kernel.mu.Unlock()
	open, fd, alter, deaf, tells := kernel.open, kernel.fd, kernel.alter, kernel.deaf, kernel.tells
	kernel.open, kernel.fd, kernel.alter, kernel.deaf, kernel.tells = false, 0, o.alter, o.deaf, o.tells
	t.Cleanup(func() {
		kernel.mu.Lock()
		defer kernel.mu.Unlock()
		if kernel.open {
			unix.Close(kernel.fd)
		}
		kernel.open, kernel.fd, kernel.alter, kernel.deaf, kernel.tells = open, fd, alter, deaf, tells
	})
}

// noDiag is a kernel without tcp_diag: it says of each socket that there is none,
// as it does about a family that has no such module.
func noDiag() *oracle {
	return &oracle{alter: func(question []byte) { question[headerSize] = unix.AF_APPLETALK }}
}

func TestAKernelThatKnowsOfNoSocketIsNotBelieved(t *testing.T) {
	client, _ := loopbackPair(t, "tcp4")
	none := netip.MustParseAddrPort("127.0.0.1:1")
	var o oracle
	if s, err := o.find(none, none); err != nil || s.state != 0 || !o.tells || o.deaf {
		t.Errorf("this kernel: %+v, %v, %+v", s, err, &o)
	}
	deaf := noDiag()
	for range 2 {
		if s, err := deaf.find(addresses(client)); !errors.Is(err, errNoDiag) || !deaf.deaf {
			t.Errorf("one without tcp_diag: %+v, %v", s, err)
		}
	}
}

// TestNobodyIsTrustedWhileTheKernelCannotBeAsked for want of a descriptor. It
// takes them from this whole process, so it is not for t.Parallel.
func TestNobodyIsTrustedWhileTheKernelCannotBeAsked(t *testing.T) {
	withKernel(t, &oracle{})
	l, launch := nearEnd(t, "tcp4"), this()
	at, addr := l.Addr().String(), l.Addr().(*net.TCPAddr).AddrPort()
	client := dial(t, "tcp4", at)
	none := netip.MustParseAddrPort("127.0.0.1:1")
	var o oracle
	_, cannotAsk := o.exchange(diagRequest(none, none)) // so that it is open
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err := launch.listens("tcp4", at)
	_, leads := launch.isKnown(addr)
	_, trying := o.find(none, none)
	blind := []error{leads, launch.leads(t.Context(), client, at), launch.judge(addr, socket{inode: 1})}
	if restore := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); restore != nil {
		t.Fatal(restore)
	}
	for i, err := range append(blind, err) {
		if !errors.Is(err, syscall.EMFILE) || strings.Contains(err.Error(), "TUNNEL") {
			t.Errorf("without descriptors, %d: %v", i, err)
		}
	}
	if !errors.Is(trying, syscall.EMFILE) && cannotAsk == nil || o.tells {
		t.Errorf("a kernel that could not be tried is believed: %v", trying)
	}
	if o.open {
		unix.Close(o.fd)
	}
	if kernel.deaf {
		t.Error("the kernel is not asked any more")
	}
	if err := launch.listens("tcp4", at); err != nil {
		t.Errorf("with descriptors again: %v", err)
	}
	if _, err := holders([]int{1 << 30}, 1); err != nil {
		t.Errorf("nobody is taken for a shortage: %v", err)
	}
}
