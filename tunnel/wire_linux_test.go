package tunnel

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestAllTCPSocketsOfSSHAreHurriedAndNothingElseIsTaken(t *testing.T) {
	v4, v6 := newPair(t, "127.0.0.1:0"), newPair(t, "[::1]:0")
	unconnected, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	early := os.NewFile(uintptr(unconnected), "")
	defer early.Close()
	local, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unixSocket, other := os.NewFile(uintptr(local[0]), ""), os.NewFile(uintptr(local[1]), "")
	defer unixSocket.Close()
	defer other.Close()
	udp, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	datagrams, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	cmd, _ := processWith(t, stays, unixSocket, v4.copy, datagrams, v6.copy, early)
	found, again := find(cmd.Process.Pid)
	pid := cmd.Process.Pid
	want := []socket{{pid, 4, v4.host()}, {pid, 6, v6.host()}, {pid, 7, ""}}
	if !slices.Equal(found, want) || !again {
		t.Errorf("found %v, look again: %t; want %v", found, again, want)
	}
	for _, p := range []*pair{v4, v6} {
		if !p.has(unix.TCP_NODELAY) || !p.has(unix.TCP_QUICKACK) {
			t.Errorf("%s is not hurried", p.host())
		}
	}
}

func TestAHostIsCalledAsSSHCallsItAlsoOnASocketForBothFamilies(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	to := &unix.SockaddrInet6{Port: port}
	copy(to.Addr[10:], []byte{0xff, 0xff, 127, 0, 0, 1})
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	cmd, _ := processWith(t, stays, file)
	found, _ := find(cmd.Process.Pid)
	if want := fmt.Sprintf("[127.0.0.1]:%d", port); len(found) != 1 || found[0].peer != want {
		t.Errorf("found %v, want %s", found, want)
	}
}

func TestTheConnectionOfAHelperIsHurried(t *testing.T) {
	p := newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, "(sh -c '"+stays+"; :' <&4) & exec 3>&-; wait", p.copy, mustPipe(t))
	eventually(t, "only a helper has it", func() bool {
		found, _ := find(cmd.Process.Pid)
		return len(found) > 0 && !slices.ContainsFunc(found, func(s socket) bool { return s.pid == cmd.Process.Pid })
	})
	if !p.has(unix.TCP_NODELAY) {
		t.Error("not hurried")
	}
}

func TestAProcessThatHasGoneIsNotLookedAtAgain(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if found, again := find(cmd.Process.Pid); len(found) > 0 || again {
		t.Errorf("found %v, look again: %t", found, again)
	}
}

// ssh's libc may have a connection before ssh has one, to a name server say.
func TestOnlyTheConnectionThatSSHNamesIsHurriedAfterTheLogin(t *testing.T) {
	libc, host := newPair(t, "127.0.0.1:0"), newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, stays, libc.copy, host.copy)
	w, l := followed(t, cmd.Process.Pid)
	eventually(t, "both are found", func() bool { return len(w.known()) == 2 })
	l.loggedIn(host.host())
	want := []socket{{cmd.Process.Pid, 4, host.host()}}
	eventually(t, "only that is known which ssh has named", func() bool { return slices.Equal(w.known(), want) })
	libc.set(t, unix.TCP_QUICKACK, 0)
	for range 3 {
		host.set(t, unix.TCP_QUICKACK, 0)
		eventually(t, "it is hurried until somebody is answered", func() bool { return host.has(unix.TCP_QUICKACK) })
	}
	if libc.has(unix.TCP_QUICKACK) {
		t.Error("libc's is hurried, too")
	}
}

func TestWhereAHelperHasTheConnectionAllOfItsAreHurried(t *testing.T) {
	one, two := newPair(t, "127.0.0.1:0"), newPair(t, "127.0.0.1:0")
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	near, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0") // ssh may listen already
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	listener, err := near.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cmd, _ := processWith(t, stays, one.copy, listener, two.copy)
	w, l := followed(t, cmd.Process.Pid)
	l.loggedIn("") // via proxy
	close(l.answered)
	for range 3 {
		one.set(t, unix.TCP_QUICKACK, 0)
		two.set(t, unix.TCP_QUICKACK, 0)
		eventually(t, "both are hurried", func() bool {
			w.now()
			return one.has(unix.TCP_QUICKACK) && two.has(unix.TCP_QUICKACK)
		})
	}
}

func TestAConnectionEndsWhenSSHEndsIt(t *testing.T) {
	p, stays := newPair(t, "127.0.0.1:0"), newPair(t, "127.0.0.1:0")
	cmd, stdin := processWith(t, "read x; exec 3>&-; read x", p.copy, stays.copy)
	w, l := followed(t, cmd.Process.Pid)
	eventually(t, "both are found", func() bool { return len(w.known()) == 2 })
	l.loggedIn("")
	close(l.answered)
	p.copy.Close()
	defer w.expect()()
	if _, err := io.WriteString(stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	_ = p.ours.SetReadDeadline(time.Now().Add(soon))
	if _, err := p.ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other end of what ssh has closed sees %v", err)
	}
}

func TestWhileAClientWaitsItsFirstByteIsHurriedAgainAndAgain(t *testing.T) {
	p := newPair(t, "127.0.0.1:0")
	cmd, _ := processWith(t, stays, p.copy)
	w, l := followed(t, cmd.Process.Pid)
	eventually(t, "it is found", func() bool { return len(w.known()) == 1 })
	close(l.answered)
	for range 5 {
		came := w.expect()
		p.set(t, unix.TCP_QUICKACK, 0)
		eventually(t, "it is hurried", func() bool {
			w.expect()() // more than a second may have passed
			return p.has(unix.TCP_QUICKACK)
		})
		came()
	}
}

func TestNothingWakesUpForAClientThatHasWaitedForLongOrForNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWire()
		w.expect()
		if w.waited() < ackFor || len(w.wake) > 0 {
			t.Error("there is no connection, and yet something is done for it")
		}
		w.take([]socket{{pid: 0}})
		came := w.expect()
		if w.waited() != 0 || len(w.wake) == 0 {
			t.Error("a client waits, and nothing is done for it")
		}
		came()
		if w.waited() < ackFor {
			t.Error("nobody waits any more, and yet something is done")
		}
		defer w.expect()()
		time.Sleep(ackFor - time.Nanosecond)
		if w.waited() >= ackFor {
			t.Errorf("given up before %s", ackFor)
		}
		time.Sleep(time.Nanosecond)
		if w.waited() < ackFor {
			t.Errorf("what comes after %s is not worth a wake-up", ackFor)
		}
	})
}

// The kernel waits for up to 40 ms; what comes after a round trip is late by a
// 64th of that at most.
func TestAWaitForAFirstByteWakesUpMoreAndMoreRarely(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, l := newWire(), newLaunch(Command{})
		var at []time.Duration
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		ours := []socket{{pid: os.Getpid(), number: int(null.Fd())}}
		w.find = func(int) ([]socket, bool) { return ours, true }
		began := time.Now()
		w.quick = func(int) error { at = append(at, time.Since(began)); return nil }
		gone := make(chan struct{})
		go w.follow(1, l, gone)
		synctest.Wait()
		close(l.answered)
		synctest.Wait()
		defer w.expect()()
		time.Sleep(time.Minute)
		synctest.Wait() // so that nobody writes to at
		if n := len(at); n < 200 || n > 300 {
			t.Errorf("it has woken up %d times", n)
		}
		for i, d := range at[1:] {
			if pause := d - at[i]; pause > max(time.Millisecond, d/64) {
				t.Errorf("nothing for %s, %s after the client has come", pause, at[i])
			}
		}
		close(gone)
	})
}

func TestTheLoginsEndIsSeenAlsoIfSomebodyIsAnsweredAtThatMoment(t *testing.T) {
	for range 20 { // select may choose either
		bubble(t, func(t *testing.T) {
			w, l := newWire(), newLaunch(Command{})
			w.find = func(int) ([]socket, bool) {
				if !isClosed(l.letIn) {
					l.loggedIn("ssh's")
					close(l.answered)
				}
				return []socket{{peer: "libc's"}, {peer: "ssh's"}}, true
			}
			gone := make(chan struct{})
			go w.follow(1, l, gone)
			synctest.Wait()
			if got := w.known(); len(got) != 1 || got[0].peer != "ssh's" {
				t.Errorf("%v are hurried", got)
			}
			close(gone)
		})
	}
}

func TestTheEndOfALongLoginIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, l := newWire(), newLaunch(Command{})
		var last time.Time
		w.find = func(int) ([]socket, bool) { last = time.Now(); return nil, true }
		gone := make(chan struct{})
		go w.follow(1, l, gone)
		time.Sleep(time.Minute + time.Microsecond)
		l.loggedIn("")
		synctest.Wait()
		if late := time.Since(last); late > 0 {
			t.Errorf("last looked %s before", late)
		}
		close(gone)
	})
}

// looks counts how often a wire looks for sockets while ssh logs in.
func looks(t *testing.T, login time.Duration, again bool) (n int) {
	bubble(t, func(t *testing.T) {
		w, l := newWire(), newLaunch(Command{})
		w.find = func(int) ([]socket, bool) { n++; return nil, again }
		gone := make(chan struct{})
		go w.follow(1, l, gone)
		time.Sleep(login)
		close(gone)
		synctest.Wait()
	})
	return n
}

func TestALoginIsLookedAtOftenAtFirstAndMoreAndMoreRarely(t *testing.T) {
	if n := looks(t, 100*time.Millisecond, true); n < 19 || n > 21 {
		t.Errorf("looked %d times in 100 ms", n)
	}
	if n := looks(t, time.Minute, true); n < 150 || n > 250 {
		t.Errorf("looked %d times in a minute", n)
	}
}

func TestWhereTheKernelDoesNotLetUsWeLookMoreAndMoreRarely(t *testing.T) {
	if n := looks(t, time.Minute, false); n < 2 || n > 15 {
		t.Errorf("looked %d times", n)
	}
}
