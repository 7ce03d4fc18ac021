package testbed

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A FarHost is another machine: with a name, a network, an /etc/ssh and a
// /home of its own, where the person has an account as well.
type FarHost struct {
	Address string
	dir     string
	SSHD    *exec.Cmd
	log     *Words
}

// NewHost starts one, at the other end of a cable from the process at. Addresses
// are those of documentation (RFC 5737).
func (p *Person) NewHost(t testing.TB, name string, cable, at int) *FarHost {
	t.Helper()
	h := &FarHost{dir: PublicDir(t), Address: fmt.Sprintf("192.0.2.%d", 4*cable+2), log: new(Words)}
	for _, d := range []string{h.path("ssh"), h.path("home"), h.Home(p)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.Owns(t, h.Home(p))
	h.NewKey(t)
	h.SSHD = exec.Command("unshare", "--net", "--mount", "--uts", "sh", "-ec",
		`mount --bind "$1/home" /home; mount --bind "$1/ssh" /etc/ssh; hostname "$2"; ip link set lo up; exec /usr/sbin/sshd -D -e`,
		"sh", h.dir, name)
	h.SSHD.Stderr = h.log
	h.Configure(t)
	if err := h.SSHD.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	h.log.Wait(t, listensForSSH)
	h.plugIn(t, cable, at)
	return h
}

const listensForSSH = `Server listening on 0\.0\.0\.0 port 22`

func (h *FarHost) path(name string) string { return filepath.Join(h.dir, name) }

// Home is the person's on the host.
func (h *FarHost) Home(p *Person) string { return filepath.Join(h.dir, "home", p.name) }

// Configure sets the host's sshd up, with lines that come first.
func (h *FarHost) Configure(t testing.TB, lines ...string) {
	t.Helper()
	Write(t, h.path("ssh/sshd_config"), strings.Join(append(lines, "UsePAM no", "PidFile none", "HostKey /etc/ssh/ssh_host_ed25519_key", ""), "\n"))
}

// Reload has sshd read its settings and its key again.
func (h *FarHost) Reload(t testing.TB) {
	t.Helper()
	before := h.log.Count(listensForSSH)
	if err := h.SSHD.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "sshd listens again", func() bool { return h.log.Count(listensForSSH) > before })
}

// NewKey gives the host another key.
func (h *FarHost) NewKey(t testing.TB) {
	t.Helper()
	file := h.path("ssh/ssh_host_ed25519_key")
	_ = os.Remove(file)
	Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@host", "-f", file)
}

// plugIn lays the cable between the host and the process at.
func (h *FarHost) plugIn(t testing.TB, cable, at int) {
	t.Helper()
	near, far := fmt.Sprintf("eth%d", cable), "up0"
	here := func(pid int, args ...string) {
		t.Helper()
		Run(t, "nsenter", append([]string{"--net", "--target", fmt.Sprint(pid), "ip"}, args...)...)
	}
	here(at, "link", "add", near, "type", "veth", "peer", "name", far, "netns", fmt.Sprint(h.SSHD.Process.Pid))
	here(at, "address", "add", fmt.Sprintf("192.0.2.%d/30", 4*cable+1), "dev", near)
	here(at, "link", "set", near, "up")
	here(h.SSHD.Process.Pid, "address", "add", h.Address+"/30", "dev", far)
	here(h.SSHD.Process.Pid, "link", "set", far, "up")
}

func (h *FarHost) stop() {
	for _, pid := range tree(h.SSHD.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = h.SSHD.Wait()
}

// Listen is a listener on the host's loopback.
func (h *FarHost) Listen(t testing.TB, port int) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with this
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.SSHD.Process.Pid))
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

// Serve has each connection to a port of the host served, until the test ends.
func (h *FarHost) Serve(t testing.TB, port int, serve func(net.Conn)) {
	t.Helper()
	go AcceptAll(h.Listen(t, port), serve)
}
