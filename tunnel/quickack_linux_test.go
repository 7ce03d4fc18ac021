package tunnel

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected starts a process that has a connection to a listener of ours, and
// returns our end of it.
func connected(t *testing.T) (*exec.Cmd, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command("nc", "127.0.0.1", port)
	stdin, err := cmd.StdinPipe() // nc stays as long as this is open
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return cmd, c
}

func TestTheConnectionToTheHostIsFound(t *testing.T) {
	cmd, host := connected(t)
	fd, _ := connection(cmd.Process.Pid)
	if fd < 0 {
		t.Fatal("not found")
	}
	defer unix.Close(fd)
	peer, err := unix.Getpeername(fd)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := peer.(*unix.SockaddrInet4).Port, host.LocalAddr().(*net.TCPAddr).Port; got != want {
		t.Errorf("it goes to port %d, want %d", got, want)
	}
}

// A client's connection that we keep open would never end for the client.
func TestAConnectionOfAProcessThatListensIsLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // handed to the process as it is, listening
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{conn, file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if fd, again := connection(cmd.Process.Pid); fd >= 0 || again {
		t.Errorf("got %d, look again: %t", fd, again)
	}
}

func TestTheHostSeesTheEndWhenSSHHasGone(t *testing.T) {
	cmd, host := connected(t)
	a := newAcks()
	answered, gone, followed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		a.follow(cmd.Process.Pid, answered, gone)
	}()
	deadline := time.Now().Add(10 * time.Second)
	for has := false; !has; {
		a.mu.Lock()
		has = a.fd >= 0
		a.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("the connection was not found")
		}
		time.Sleep(time.Millisecond)
	}
	close(answered)
	a.expect()()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	close(gone)
	<-followed
	_ = host.SetReadDeadline(deadline)
	if _, err := host.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the host has not seen the end: %v", err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Nobody waits: nothing is to wake up.
func TestAcksSleepWhileNobodyWaits(t *testing.T) {
	a := newAcks()
	a.take(0) // any descriptor will do
	defer a.take(-1)
	came := a.expect()
	if !a.expected() {
		t.Error("a client waits, and nothing is done for it")
	}
	came()
	if a.expected() {
		t.Error("nobody waits any more, and yet something is done")
	}
	never := a.expect()
	defer never()
	a.mu.Lock()
	a.until = time.Now()
	a.mu.Unlock()
	if a.expected() {
		t.Error("what comes after 50 ms is not worth a wake-up")
	}
}
