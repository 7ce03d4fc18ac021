//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A person sits at a terminal of the machine.
type person struct {
	name, home, password string
	uid, gid             uint32
}

// newPerson makes an account with a password, whose sudo does not ask for it.
func (m *machine) newPerson(t *testing.T, name string) *person {
	t.Helper()
	p := &person{name: name, home: "/home/" + name, password: "correct horse"}
	m.run(t, 0, "useradd", "--create-home", "--shell", "/bin/bash", name)
	m.run(t, 0, "sh", "-c", `echo "$1" | chpasswd -c SHA512`, "sh", name+":"+p.password)
	write(t, "/etc/sudoers.d/"+name, name+" ALL=(ALL:ALL) NOPASSWD: ALL\n")
	if err := os.Chmod("/etc/sudoers.d/"+name, 0o440); err != nil {
		t.Fatal(err)
	}
	p.uid = uint32(uidOf(t, name))
	p.gid = p.uid // useradd's way
	return p
}

// owns has a file made the person's.
func (p *person) owns(t *testing.T, name string) {
	t.Helper()
	if err := os.Chown(name, int(p.uid), int(p.gid)); err != nil {
		t.Fatal(err)
	}
}

// answers are what the person types when a program waits for it.
func (p *person) answers() map[*regexp.Regexp]string {
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`\(yes/no/\[fingerprint\]\)\? $`):                "yes",
		regexp.MustCompile(`(password|passphrase): $`):                      p.password,
		regexp.MustCompile(`Do you want to continue\? \[Y/n\] $`):           "y",
		regexp.MustCompile(`Enter file in which to save the key \(.*\): $`): "",
		regexp.MustCompile(`Escape character.*\r\n220 .*\r\n$`):             "quit",
		regexp.MustCompile(`Escape character.*\r\n\* OK .*\r\n$`):           "a logout",
	}
}

// types has a shell run a command at a terminal, and returns what is then seen.
func (p *person) types(t *testing.T, command string) string {
	t.Helper()
	keyboard, terminal := newTerminal(t)
	defer keyboard.Close()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir = p.home
	cmd.Env = []string{"HOME=" + p.home, "USER=" + p.name, "LOGNAME=" + p.name, "SHELL=/bin/bash", "TERM=xterm",
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
func (p *person) watch(t *testing.T, keyboard *os.File) string {
	t.Helper()
	var seen bytes.Buffer
	answered := 0
	_ = keyboard.SetDeadline(time.Now().Add(3 * patience))
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
func newTerminal(t *testing.T) (keyboard, terminal *os.File) {
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

// An otherHost is another machine: with a name, a network, an /etc/ssh and a
// /home of its own, where the person has an account as well.
type otherHost struct {
	address string
	dir     string
	sshd    *exec.Cmd
	log     *words
}

// newHost starts one, at the other end of a cable from the process at. Addresses
// are those of documentation (RFC 5737).
func (p *person) newHost(t *testing.T, name string, cable, at int) *otherHost {
	t.Helper()
	h := &otherHost{dir: publicDir(t), address: fmt.Sprintf("192.0.2.%d", 4*cable+2), log: new(words)}
	for _, d := range []string{h.path("ssh"), h.path("home"), h.home(p)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.owns(t, h.home(p))
	h.newKey(t)
	h.sshd = exec.Command("unshare", "--net", "--mount", "--uts", "sh", "-ec",
		`mount --bind "$1/home" /home; mount --bind "$1/ssh" /etc/ssh; hostname "$2"; ip link set lo up; exec /usr/sbin/sshd -D -e`,
		"sh", h.dir, name)
	h.sshd.Stderr = h.log
	h.configure(t)
	if err := h.sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	h.log.wait(t, listensForSSH)
	h.plugIn(t, cable, at)
	return h
}

const listensForSSH = `Server listening on 0\.0\.0\.0 port 22`

func (h *otherHost) path(name string) string { return filepath.Join(h.dir, name) }

// home is the person's on the host.
func (h *otherHost) home(p *person) string { return filepath.Join(h.dir, "home", p.name) }

// configure sets the host's sshd up, with lines that come first.
func (h *otherHost) configure(t *testing.T, lines ...string) {
	t.Helper()
	write(t, h.path("ssh/sshd_config"), strings.Join(append(lines, "UsePAM no", "PidFile none", "HostKey /etc/ssh/ssh_host_ed25519_key", ""), "\n"))
}

// reload has sshd read its settings and its key again.
func (h *otherHost) reload(t *testing.T) {
	t.Helper()
	before := h.log.count(listensForSSH)
	if err := h.sshd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sshd listens again", func() bool { return h.log.count(listensForSSH) > before })
}

// newKey gives the host another key.
func (h *otherHost) newKey(t *testing.T) {
	t.Helper()
	file := h.path("ssh/ssh_host_ed25519_key")
	_ = os.Remove(file)
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@host", "-f", file)
}

// plugIn lays the cable between the host and the process at.
func (h *otherHost) plugIn(t *testing.T, cable, at int) {
	t.Helper()
	near, far := fmt.Sprintf("eth%d", cable), "up0"
	here := func(pid int, args ...string) {
		t.Helper()
		command(t, "nsenter", append([]string{"--net", "--target", fmt.Sprint(pid), "ip"}, args...)...)
	}
	here(at, "link", "add", near, "type", "veth", "peer", "name", far, "netns", fmt.Sprint(h.sshd.Process.Pid))
	here(at, "address", "add", fmt.Sprintf("192.0.2.%d/30", 4*cable+1), "dev", near)
	here(at, "link", "set", near, "up")
	here(h.sshd.Process.Pid, "address", "add", h.address+"/30", "dev", far)
	here(h.sshd.Process.Pid, "link", "set", far, "up")
}

func (h *otherHost) stop() {
	for _, pid := range tree(h.sshd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = h.sshd.Wait()
}

// listen is a listener on the host's loopback.
func (h *otherHost) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with this
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.sshd.Process.Pid))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

// serve has each connection to a port of the host served, until the test ends.
func (h *otherHost) serve(t *testing.T, port int, serve func(net.Conn)) {
	t.Helper()
	go acceptAll(h.listen(t, port), serve)
}
