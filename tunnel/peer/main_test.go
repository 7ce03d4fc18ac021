package peer

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
)

// intruder is another local user, whom every system has.
const intruder = "daemon"

// fakes is a directory with this test's binary under the names of what it can
// play; any user may run it there.
var fakes string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fake-server" {
		os.Exit(fakeServer(os.Args[1], os.Args[2]))
	}
	os.Exit(withFakes(m.Run))
}

func withFakes(f func() int) int {
	dir, err := os.MkdirTemp("", "peer-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	fakes = dir
	self, err := os.Executable()
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(self)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "fake-server"), b, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return f()
}

// fakeServer is somebody who sits on a port, whose address it prints. It ends
// with its stdin.
func fakeServer(network, address string) int {
	l, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	go greetAll(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// greetAll greets whoever comes, as a mail server does, and keeps him.
func greetAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "220 fake.example.com ESMTP\r\n")
		go func() { _, _ = io.Copy(io.Discard, c) }()
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
}

func uidOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}
