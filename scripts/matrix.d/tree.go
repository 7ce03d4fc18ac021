//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
)

// A tree is a Debian's root, with an ssh and with a server: a copy that may be
// changed, where the work's directory is /mx.
type tree struct {
	name, root string
	kind       string // of its server: sshd, dropbear or tinysshd
	client     string // a program that runs its ssh
	ssh        openssh.Version
	version    string // of its server's package
	hostKey    string // as known_hosts has it
}

// accounts are those of a tree: one that is well, and some that are not.
const accounts = "me:*:20000::::::\nold:*:20000:0:99999:7::1:\nstale:*:0:0:99999:7:::\nlocked:!:20000::::::\n"

// mounted makes the copy of the Debian in lower.
func (w *work) mounted(name, lower, kind string) *tree {
	t := &tree{name: name, root: w.path("trees/" + name + "/root"), kind: kind}
	for _, d := range []string{"upper", "over", "root", "bin"} {
		w.must(os.MkdirAll(w.path("trees/"+name+"/"+d), 0o755))
	}
	w.must(syscall.Mount("overlay", t.root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, w.path("trees/"+name+"/upper"), w.path("trees/"+name+"/over"))))
	for _, d := range []string{"/dev", "/proc", w.dir} {
		to := t.root + strings.Replace(d, w.dir, "/mx", 1)
		w.must(os.MkdirAll(to, 0o755))
		w.must(syscall.Mount(d, to, "", syscall.MS_BIND, ""))
	}
	w.must(os.MkdirAll(t.root+"/run/sshd", 0o755))
	for i, line := range strings.Fields(accounts) {
		user, _, _ := strings.Cut(line, ":")
		home, id := t.root+"/home/"+user, 2000+i
		w.appendTo(t.root+"/etc/passwd", fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/bash\n", user, id, id, user))
		w.appendTo(t.root+"/etc/group", fmt.Sprintf("%s:x:%d:\n", user, id))
		w.appendTo(t.root+"/etc/shadow", line+"\n")
		w.must(os.MkdirAll(home+"/.ssh", 0o700))
		w.copy(w.path("key.pub"), home+"/.ssh/authorized_keys")
		for _, f := range []string{home, home + "/.ssh", home + "/.ssh/authorized_keys"} {
			w.must(os.Chown(f, id, id))
		}
	}
	t.version = w.in(t, "dpkg-query", "-W", "-f", "${Version}", map[string]string{"sshd": "openssh-server", "dropbear": "dropbear-bin", "tinysshd": "tinysshd"}[kind])
	t.hostKey = w.read(w.path("hostkey.pub"))
	switch kind {
	case "sshd":
		w.makeClient(t)
	case "tinysshd":
		w.in(t, "tinysshd-makekey", "/root/keys")
		t.hostKey = w.in(t, "tinysshd-printkey", "/root/keys")
	case "dropbear":
		w.in(t, "dropbearconvert", "openssh", "dropbear", "/mx/hostkey", "/mx/hostkey.dropbear")
	}
	return t
}

// makeClient writes a program that runs the tree's ssh, with the tree's libraries.
func (w *work) makeClient(t *tree) {
	t.client = w.path("trees/" + t.name + "/bin/ssh")
	loaders, err := filepath.Glob(t.root + "/lib/x86_64-linux-gnu/ld-[2l]*") // that in /lib64 may be an absolute link
	w.must(err)
	loader := loaders[0]
	ssh := t.root + "/usr/bin/ssh"
	line := fmt.Sprintf("%s --argv0 %s --library-path %s/lib/x86_64-linux-gnu:%s/usr/lib/x86_64-linux-gnu %s", loader, t.client, t.root, t.root, ssh)
	if out, _ := exec.Command(loader, "--help").CombinedOutput(); !strings.Contains(string(out), "--argv0") {
		// An old one, whose ProxyJump would not find itself: our own C library can run it.
		line = "env LD_LIBRARY_PATH=" + w.missing(t, ssh) + " bash -c 'exec -a " + t.client + " " + ssh + " \"$@\"' ssh"
	}
	w.write(t.client, "#!/bin/sh\nexec "+line+" \"$@\"\n")
	w.must(os.Chmod(t.client, 0o755))
	t.ssh, err = openssh.AskVersion(context.Background(), os.Environ(), t.client)
	w.must(err)
}

// missing is a directory with the libraries that the tree's program needs, and
// that are not here.
func (w *work) missing(t *tree, program string) string {
	dir := w.path("trees/" + t.name + "/lib")
	w.must(os.MkdirAll(dir, 0o755))
	for line := range strings.Lines(w.run("ldd", program)) {
		name, _, missing := strings.Cut(strings.TrimSpace(line), " => not found")
		if found, _ := filepath.Glob(t.root + "/usr/lib/x86_64-linux-gnu/" + name); missing && len(found) > 0 {
			w.copy(found[0], filepath.Join(dir, name))
		}
	}
	return dir
}

// in runs a program in the tree.
func (w *work) in(t *tree, argv ...string) string {
	out, err := exec.Command("chroot", append([]string{t.root}, argv...)...).CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v: %v: %s", t.name, argv, err, out)
	}
	return string(out)
}

// start starts the tree's server on a port of 127.0.0.1, until stop is called.
func (w *work) start(t *tree, dir string, port int, f fault) (stop func()) {
	if t.kind == "tinysshd" { // which serves one connection
		return w.listen(port, func(c net.Conn) {
			f, _ := c.(*net.TCPConn).File()
			cmd := exec.Command("chroot", t.root, "tinysshd", "/root/keys")
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Start()
			f.Close()
			c.Close()
			_ = cmd.Wait()
		})
	}
	argv := []string{"dropbear", "-F", "-E", "-s", "-r", "/mx/hostkey.dropbear", "-p", fmt.Sprintf("127.0.0.1:%d", port)}
	if t.kind == "sshd" {
		config := filepath.Join(dir, fmt.Sprint("sshd_config", port))
		w.write(config, strings.Join(append(slices.Clone(f.sshd), fmt.Sprint("Port ", port), "ListenAddress 127.0.0.1", "HostKey /mx/hostkey",
			"AuthorizedKeysFile /mx/key.pub", "StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no",
			"KbdInteractiveAuthentication no", ""), "\n"))
		argv = []string{"/usr/sbin/sshd", "-D", "-e", "-f", strings.Replace(config, w.dir, "/mx", 1)}
	}
	argv = append([]string{"chroot", t.root}, argv...)
	if f.closed { // nologin(5) is for this one alone
		pam := filepath.Join(dir, "pam")
		w.write(w.path("nologin"), "the host is closed\n")
		w.write(pam, strings.Replace(w.read(t.root+"/etc/pam.d/sshd"), "pam_nologin.so", "pam_nologin.so file=/mx/nologin", 1))
		argv = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1/etc/pam.d/sshd" && exec chroot "$@"`, pam}, argv[1:]...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	log, err := os.Create(filepath.Join(dir, fmt.Sprint("server", port, ".log")))
	w.must(err)
	cmd.Stderr = log
	w.must(cmd.Start())
	log.Close()
	w.reached(port, log.Name())
	return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() } // its sessions end with ssh
}

// reached waits until a port is listened on.
func (w *work) reached(port int, log string) {
	at := fmt.Sprintf(":%04X ", port)
	for range 400 {
		if b, _ := os.ReadFile("/proc/net/tcp"); strings.Contains(string(b), at+"00000000:0000 0A") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b, _ := os.ReadFile(log)
	w.Fatalf("nobody listens on port %d: %s", port, b)
}

// listen serves a port of 127.0.0.1 until stop is called.
func (w *work) listen(port int, serve func(net.Conn)) (stop func()) {
	return w.listenAt("127.0.0.1", port, serve)
}

func (w *work) listenAt(address string, port int, serve func(net.Conn)) (stop func()) {
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
	w.must(err)
	go testbed.AcceptAll(l, serve)
	return func() { l.Close() }
}
