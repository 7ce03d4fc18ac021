package tunnel

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pair is a TCP connection whose one end is given to a process, as what ssh
// has is ssh's. Options are the socket's, whoever has it, so we look at them at
// our copy.
type pair struct {
	ours net.Conn // the other end
	copy *os.File
}

func newPair(t *testing.T, address string) *pair {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := new(pair)
	if p.ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if p.copy, err = c.(*net.TCPConn).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.ours.Close(); p.copy.Close() })
	p.set(t, unix.TCP_NODELAY, 0)
	p.set(t, unix.TCP_QUICKACK, 0)
	return p
}

func (p *pair) set(t *testing.T, option, value int) {
	t.Helper()
	if err := unix.SetsockoptInt(int(p.copy.Fd()), unix.IPPROTO_TCP, option, value); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) has(option int) bool {
	v, err := unix.GetsockoptInt(int(p.copy.Fd()), unix.IPPROTO_TCP, option)
	return err == nil && v != 0
}

// host is what ssh calls the other end.
func (p *pair) host() string {
	a := p.ours.LocalAddr().(*net.TCPAddr)
	return fmt.Sprintf("[%s]:%d", a.IP, a.Port)
}

// processWith runs a script that has files from descriptor 3 on; it ends with
// the test.
func processWith(t *testing.T, script string, files ...*os.File) (*exec.Cmd, io.Writer) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd, stdin
}

const stays = "while read x; do :; done"

// eventually fails if is does not become true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come true that %s", what)
		}
	}
}

// mustPipe is the reading end of a pipe that has no end before the test has.
func mustPipe(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}

// followed follows a process until the test ends.
func followed(t *testing.T, pid int) (*wire, *launch) {
	w, l := newWire(), &launch{letIn: make(chan struct{}), answered: make(chan struct{})}
	gone, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.follow(pid, l, gone)
	}()
	t.Cleanup(func() {
		close(gone)
		if <-done; len(w.known()) > 0 {
			t.Errorf("ssh has gone, and its sockets are still known: %v", w.known())
		}
	})
	return w, l
}

func (w *wire) known() []socket {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sockets
}
