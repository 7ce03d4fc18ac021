package testbed

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ServerOf is the address of a server that another user runs.
func ServerOf(t testing.TB, network, name string) string {
	t.Helper()
	NeedRoot(t)
	uid := UidOf(t, name)
	cmd := exec.Command(FakeProgram(t, "fake-server"), network, "127.0.0.1:0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true}}
	stdin, s, err := StartAndHear(t, cmd)
	t.Cleanup(func() {
		stdin.Close() // that ends it
		_ = cmd.Wait()
	})
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	return s
}

// StartAndHear starts a command, and returns the first line that it says, and its
// stdin, which is to be closed, or the error that it has ended without one.
func StartAndHear(t testing.TB, cmd *exec.Cmd) (stdin io.WriteCloser, line string, err error) {
	t.Helper()
	stdin, err = cmd.StdinPipe()
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
	line, err = bufio.NewReader(stdout).ReadString('\n')
	return stdin, strings.TrimSpace(line), err
}

// FakeProgram is a copy of this test's binary that any user may run; by its
// name it knows what to play (roles).
func FakeProgram(t testing.TB, name string) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(Program), name)
	fakes.Lock()
	defer fakes.Unlock()
	if _, err := os.Stat(file); err == nil {
		return file
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	writeProgram(t, file, b)
	return file
}

var fakes sync.Mutex

const FakeGreeting = "220 far.test\r\n"

func GreetAll(l net.Listener) {
	AcceptAll(l, func(c net.Conn) {
		_, _ = io.WriteString(c, FakeGreeting)
		_, _ = io.Copy(c, c)
	})
}

// fakeServer is somebody who sits on a port, whose address it prints. It ends
// with its stdin.
func fakeServer(args []string) int {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	go GreetAll(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// Stay is the end of a role that waits to be killed: in a build without cgo Go
// takes select {} for a deadlock.
func Stay() int {
	<-time.After(time.Hour)
	return 1
}

// Found are the texts of the first group of re in s, sorted, each once.
func Found(re, s string) []string {
	var all []string
	for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(s, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// PlayedBy has another user play a role until the test ends. It returns when the
// role has printed its first line.
func PlayedBy(t testing.TB, name, role string, args ...string) {
	t.Helper()
	NeedRoot(t)
	uid := uint32(UidOf(t, name))
	cmd := exec.Command(FakeProgram(t, role), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%s: %q, %v", role, line, err)
	}
}
