package tunnel

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestOnlyTheHostsConnectionsAreMeantOrAllIfNoneIs(t *testing.T) {
	a, b, listening := socket{1, 3, "[192.0.2.1]:22"}, socket{1, 4, "[192.0.2.2]:22"}, socket{1, 5, ""}
	for _, test := range []struct {
		all  []socket
		host string
		want []socket
	}{
		{[]socket{a, b, listening}, a.peer, []socket{a}},
		{[]socket{a, b, listening}, "", []socket{a, b}},
		{[]socket{a, b, listening}, "[192.0.2.3]:22", []socket{a, b, listening}},
		{[]socket{listening}, "", []socket{listening}},
		{nil, a.peer, nil},
	} {
		if got := only(slices.Clone(test.all), test.host); !slices.Equal(got, test.want) {
			t.Errorf("of %v to %q: %v, want %v", test.all, test.host, got, test.want)
		}
	}
}

// forbidden runs f on a thread of its own for which pidfd_getfd(2) fails, as in
// many a container, or with a kernel before 5.6.
func forbidden(t *testing.T, with syscall.Errno, f func()) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_PIDFD_GETFD},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(with)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and end it with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("no seccomp(2) here: %v", err)
	}
}

func TestWhereTheKernelDoesNotLetUsNothingIsFoundNorLookedForAgain(t *testing.T) {
	p := newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, stays, mustPipe(t), p.copy)
	for _, with := range []syscall.Errno{unix.EPERM, unix.ENOSYS} {
		forbidden(t, with, func() {
			if found, again := find(cmd.Process.Pid); len(found) > 0 || again {
				t.Errorf("%v: found %v, look again: %t", with, found, again)
			}
		})
	}
	if found, again := find(cmd.Process.Pid); len(found) != 1 || !again {
		t.Errorf("elsewhere: found %v, look again: %t", found, again)
	}
}

// counted follows a launch of a wire that has a socket, and counts what is
// acknowledged.
func counted(t *testing.T, l *launch) (acks *int) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	acks = new(int)
	ours := []socket{{os.Getpid(), int(null.Fd()), "host"}}
	l.wire.find = func(int) ([]socket, bool) { return ours, true }
	l.wire.quick = func(int) error { *acks++; return nil }
	gone, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.wire.follow(1, l, gone)
	}()
	t.Cleanup(func() { close(gone); <-done; null.Close(); l.stop(nil) })
	return acks
}

func TestNothingWakesUpWhenTheLoginIsOverAndNobodyWaits(t *testing.T) {
	for _, host := range []string{"host", "not said"} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			acks := counted(t, l)
			if host == "host" {
				l.loggedIn(host)
			}
			close(l.answered)
			synctest.Wait()
			l.wire.expect()()
			time.Sleep(time.Minute)
			synctest.Wait()
			if *acks > 1 {
				t.Errorf("%s: acknowledged %d times, though nobody waits", host, *acks)
			}
		})
	}
}

func TestWhatHasBeenReadIsAcknowledgedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLaunch(Command{})
		acks := counted(t, l)
		close(l.answered)
		synctest.Wait()
		before := *acks
		(&Conn{l: l}).Received()
		if *acks != before+1 {
			t.Errorf("acknowledged %d times", *acks-before)
		}
	})
}

func TestTheConnectionsOfARealLaunchAreFoundAndForgotten(t *testing.T) {
	r := command(t, Config{Command: runs(fake("echo", "tcp", "127.0.0.1:0"), "GODEBUG=multipathtcp=0")})
	pid := r.pid(t)
	eventually(t, "its listening socket is found", func() bool {
		return slices.ContainsFunc(r.wire.known(), func(s socket) bool { return s.pid == pid && s.peer == "" })
	})
	r.stop(nil)
	_ = r.end(t)
	if known := r.wire.known(); len(known) > 0 {
		t.Errorf("it has gone, and %v are still known", known)
	}
}
