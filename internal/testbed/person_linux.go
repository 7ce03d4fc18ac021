package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Person sits at a terminal of the machine.
type Person struct {
	name, Home, Password string
	uid, gid             uint32
}

// NewPerson makes an account with a password, whose sudo does not ask for it.
func (m *Machine) NewPerson(t testing.TB, name string) *Person {
	t.Helper()
	p := &Person{name: name, Home: "/home/" + name, Password: "correct horse"}
	m.Run(t, 0, "useradd", "--create-home", "--shell", "/bin/bash", name)
	m.Run(t, 0, "sh", "-c", `echo "$1" | chpasswd -c SHA512`, "sh", name+":"+p.Password)
	Write(t, "/etc/sudoers.d/"+name, name+" ALL=(ALL:ALL) NOPASSWD: ALL\n")
	if err := os.Chmod("/etc/sudoers.d/"+name, 0o440); err != nil {
		t.Fatal(err)
	}
	p.uid = uint32(UidOf(t, name))
	p.gid = p.uid // useradd's way
	return p
}

// Owns has a file made the person's.
func (p *Person) Owns(t testing.TB, name string) {
	t.Helper()
	if err := os.Chown(name, int(p.uid), int(p.gid)); err != nil {
		t.Fatal(err)
	}
}

// answers are what the person types when a program waits for it.
func (p *Person) answers() map[*regexp.Regexp]string {
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`\(yes/no/\[fingerprint\]\)\? $`):                "yes",
		regexp.MustCompile(`(password|passphrase): $`):                      p.Password,
		regexp.MustCompile(`Do you want to continue\? \[Y/n\] $`):           "y",
		regexp.MustCompile(`Enter file in which to save the key \(.*\): $`): "",
		regexp.MustCompile(`Escape character.*\r\n220 .*\r\n$`):             "quit",
		regexp.MustCompile(`Escape character.*\r\n\* OK .*\r\n$`):           "a logout",
	}
}

// Types has a shell run a command at a terminal, and returns what is then seen.
func (p *Person) Types(t testing.TB, command string) string {
	t.Helper()
	keyboard, terminal := newTerminal(t)
	defer keyboard.Close()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir = p.Home
	cmd.Env = []string{"HOME=" + p.Home, "USER=" + p.name, "LOGNAME=" + p.name, "SHELL=/bin/bash", "TERM=xterm",
		"LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Credential: &syscall.Credential{Uid: p.uid, Gid: p.gid}}
	err := cmd.Start()
	terminal.Close()
	if err != nil {
		t.Fatal(err)
	}
	seen := p.watch(t, keyboard)
	_ = cmd.Wait() // what it says counts
	return seen
}

// watch reads all that is written to a terminal, and answers questions.
func (p *Person) watch(t testing.TB, keyboard *os.File) string {
	t.Helper()
	var seen bytes.Buffer
	answered := 0
	_ = keyboard.SetDeadline(time.Now().Add(3 * Patience))
	for buf := make([]byte, 4096); ; {
		n, err := keyboard.Read(buf)
		seen.Write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("it does not end, but says:\n%s", seen.Bytes())
		}
		if err != nil { // EIO: nobody has the terminal any more
			return seen.String()
		}
		for question, answer := range p.answers() {
			if question.Match(seen.Bytes()[answered:]) {
				answered = seen.Len()
				_, _ = io.WriteString(keyboard, answer+"\n")
				break
			}
		}
	}
}

// newTerminal makes a pseudoterminal, pty(7).
func newTerminal(t testing.TB) (keyboard, terminal *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	keyboard = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, terminal
}

// Writes makes a file of the person's.
func (p *Person) Writes(t testing.TB, name, text string) {
	t.Helper()
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(p.Home, rest)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	Write(t, name, text)
	for ; strings.HasPrefix(name, p.Home+"/"); name = filepath.Dir(name) {
		p.Owns(t, name)
	}
}
