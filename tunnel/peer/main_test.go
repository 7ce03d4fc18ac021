package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// intruder is another local user, whom every system has.
const intruder = "daemon"

// fakes is a directory with copies of this test's binary under the names of what
// they play; any user may run them there.
var fakes string

// roles are what else the binary can be, by its name or TEST_ROLE.
var roles = map[string]func(args []string) int{"server": serve, "ssh": playSSH}

func TestMain(m *testing.M) {
	for _, name := range []string{os.Getenv("TEST_ROLE"), filepath.Base(os.Args[0])} {
		if role := roles[name]; role != nil {
			os.Exit(role(os.Args[1:]))
		}
	}
	os.Exit(withFakes(m.Run))
}

func withFakes(f func() int) int {
	dir, err := copyOfSelf("server", "ssh", "opener", "renamed", "forking", "namesake", "binder", "wrapper")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	fakes = dir
	return f()
}

func copyOfSelf(names ...string) (dir string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "peer-test-"); err != nil {
		return "", err
	}
	self = filepath.Join(dir, names[0])
	err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(self, b, 0o755))
	for _, name := range names[1:] {
		err = errors.Join(err, os.Link(self, filepath.Join(dir, name)))
	}
	return dir, err
}

// serve listens at NETWORK ADDRESS, says where, and greets whoever comes. It ends
// with its stdin.
func serve(args []string) int {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr())
	go greetAll(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// playSSH listens where -L NEAR:HOST:PORT says, and then does as serve.
func playSSH(args []string) int {
	for i, a := range args[1:] {
		if args[i] != "-L" {
			continue
		}
		near, _, _ := strings.Cut(a, ":")
		if strings.HasPrefix(near, "/") {
			_ = os.Remove(near) // StreamLocalBindUnlink=yes
			return serve([]string{"unix", near})
		}
		return serve([]string{"tcp", "127.0.0.1:" + near})
	}
	return 2
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

// A played process is a fake, or somebody who starts one.
type played struct {
	cmd *exec.Cmd
	at  string // what it has said: where it, or what it has started, listens
	end func() // returns when it has gone
}

func (p *played) pid() int { return p.cmd.Process.Pid }

// play starts a command, in a process group of its own, as tunnel does, and waits
// for what it says.
func play(t *testing.T, cmd *exec.Cmd) *played {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	stdin, w, err := os.Pipe() // not cmd.StdinPipe: what outlives cmd keeps it
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	p := &played{cmd: cmd}
	ended := false
	p.end = func() {
		if !ended {
			ended = true
			w.Close() // that ends a fake
			_, _ = io.Copy(io.Discard, stdout)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(p.end)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s says %q, and then %v", cmd, line, err)
	}
	p.at = strings.TrimSpace(line)
	return p
}

// as has a command run as another user.
func as(t *testing.T, name string, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	needRoot(t)
	uid := uint32(uidOf(t, name))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
	return cmd
}

func fake(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(fakes, name), args...)
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
