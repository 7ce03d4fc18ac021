//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// ports of the far end.
type far struct{ mail, bulk int }

// startFarEnd runs this program once more.
func (w *world) startFarEnd() (far, error) {
	var f far
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := w.command(self, "farend", w.path("farend.sock"))
	r, s, err := os.Pipe()
	if err != nil {
		return f, err
	}
	defer r.Close()
	cmd.Stdout = s
	_, err = w.launch(w.there, cmd)
	s.Close()
	if err != nil {
		return f, err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && err != io.EOF {
		return f, err
	}
	_, err = fmt.Sscan(line, &f.mail, &f.bulk)
	return f, err
}

// startSSHD runs an sshd of our own, and writes the ssh_config that leads to it
// as "provider", and on to itself as "beyond".
func (w *world) startSSHD() error {
	program, err := exec.LookPath("sshd")
	if err != nil {
		return err
	}
	for _, name := range []string{"key", "hostkey"} {
		keygen := w.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", w.path(name))
		if out, err := keygen.CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	if w.as != nil {
		// sshd wants its own key to be its own.
		if err := os.Chown(w.path("hostkey"), 0, 0); err != nil {
			return err
		}
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	key, _ := os.ReadFile(w.path("key.pub"))
	hostKey, _ := os.ReadFile(w.path("hostkey.pub"))
	for name, text := range map[string]string{
		"authorized_keys": "restrict,port-forwarding " + string(key),
		"known_hosts":     "provider " + string(hostKey),
		"sshd_config": fmt.Sprintf(`ListenAddress %s
Port %d
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PidFile none
AllowUsers %s
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding local
`, w.there.ip(), port, w.path("hostkey"), w.path("authorized_keys"), w.who.Username),
		"ssh_config": fmt.Sprintf(`Host beyond
  ProxyJump provider
Host provider beyond
  HostName %s
  Port %d
  User %s
  HostKeyAlias provider
  UserKnownHostsFile %s
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  IdentityFile %s
  IdentitiesOnly yes
  IdentityAgent none
`, w.there.ip(), port, w.who.Username, w.path("known_hosts"), w.path("key")),
	} {
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cmd := w.command(program, "-D", "-e", "-f", w.path("sshd_config"))
	cmd.SysProcAttr = nil
	sshd, err := w.launch(w.there, cmd)
	if err != nil {
		return err
	}
	return sshd.says("Server listening", 1)
}

// bareSSH starts an ssh -L to a port of the far end, and returns at once.
func (w *world) bareSSH(farPort int) (string, *process, error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	p, err := w.start("ssh", "-F", w.path("ssh_config"), "-N", "-o", "BatchMode=yes",
		"-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%d", port, farPort), w.host)
	return local(port), p, err
}

// readySSH is a bareSSH that has let a connection through.
func (w *world) readySSH(farPort int) (string, *process, error) {
	addr, p, err := w.bareSSH(farPort)
	if err == nil {
		err = w.listening(addr, p)
	}
	return addr, p, err
}

// arguments of a minimail at port.
func (w *world) arguments(p program, port, near, far int, protocol string) []string {
	return []string{p.path, "--settings", "/dev/null", "--host", w.host,
		"--forward", fmt.Sprintf("127.0.0.1:%d:%d:127.0.0.1:%d", port, near, far), "--protocol", protocol,
		"--max-clients", "2500", "--log-format", "json",
		"--pid-file", w.path(fmt.Sprintf("%d.pid", port)), "--log-file", w.path(fmt.Sprintf("%d.log", port))}
}

// startMinimail runs one in front of the real ssh; the tunnel is down.
func (w *world) startMinimail(p program, farPort int, protocol, idle string) (string, *process, error) {
	near, err := freePort()
	if err != nil {
		return "", nil, err
	}
	return w.foreground(p, near, farPort, protocol, "--ssh-config", w.path("ssh_config"), "--idle", idle, "--jitter", "0")
}

// startAlone runs one whose near end is the far end itself.
func (w *world) startAlone(p program, farPort int, protocol, idle string) (string, *process, error) {
	return w.foreground(p, farPort, farPort, protocol, "--ssh", w.path("no-ssh"), "--idle", idle, "--jitter", "0")
}

// noSSH is in place of ssh where there is to be none.
const noSSH = `#!/bin/sh
case $1 in
-V) echo OpenSSH_9.2p1 >&2 ;;
*) exec %s keep %s ;;
esac
`

func (w *world) foreground(p program, near, farPort int, protocol string, more ...string) (string, *process, error) {
	port, err := freePort()
	for err == nil && port == near {
		port, err = freePort()
	}
	if err != nil {
		return "", nil, err
	}
	argv := append(w.arguments(p, port, near, farPort, protocol), "-X")
	daemon, err := w.start(append(argv, more...)...)
	if err != nil {
		return "", nil, err
	}
	return local(port), daemon, daemon.says(`"message":"listening"`, 1)
}

// A peer is another forwarder: how to start it, at a port, in front of another.
type peer struct {
	name    string
	program string
	holds   bool // it is made for many connections
	argv    func(w *world, port, to int) ([]string, error)
}

var peers = []peer{
	{"socat", "socat", false, func(_ *world, port, to int) ([]string, error) {
		return []string{"socat", "-b", "131072", fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork,backlog=4096,nodelay", port),
			fmt.Sprintf("TCP:127.0.0.1:%d,nodelay", to)}, nil
	}},
	{"haproxy", "haproxy", true, func(w *world, port, to int) ([]string, error) {
		name := w.path("haproxy-" + strconv.Itoa(port))
		return []string{"haproxy", "-db", "-q", "-f", name}, os.WriteFile(name, fmt.Appendf(nil, `global
  maxconn 4000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind 127.0.0.1:%d backlog 4096
  server far 127.0.0.1:%d
`, port, to), 0o644)
	}},
	{"nginx", "nginx", true, func(w *world, port, to int) ([]string, error) {
		name := w.path("nginx-" + strconv.Itoa(port))
		load := ""
		if module := "/usr/lib/nginx/modules/ngx_stream_module.so"; exists(module) {
			load = "load_module " + module + ";"
		}
		return []string{"nginx", "-p", w.dir, "-e", "stderr", "-c", name}, os.WriteFile(name, fmt.Appendf(nil, `%s
daemon off;
pid %s.pid;
worker_processes auto;
events { worker_connections 4096; }
stream {
  server {
    listen 127.0.0.1:%d backlog=4096;
    proxy_pass 127.0.0.1:%d;
    proxy_timeout 1h;
  }
}
`, load, name, port, to), 0o644)
	}},
	{"systemd-socket-proxyd", "/usr/lib/systemd/systemd-socket-proxyd", false, func(_ *world, port, to int) ([]string, error) {
		return []string{"systemd-socket-activate", "-l", local(port),
			"/usr/lib/systemd/systemd-socket-proxyd", "--connections-max=4000", local(to)}, nil
	}},
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// startPeer returns when it forwards, which through tries.
func (w *world) startPeer(p peer, to int, through func(addr string) error) (string, *process, error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	argv, err := p.argv(w, port, to)
	if err != nil {
		return "", nil, err
	}
	proc, err := w.start(argv...)
	if err != nil {
		return "", nil, err
	}
	addr := local(port)
	if err := w.listening(addr, proc); err != nil {
		return "", nil, err
	}
	began := time.Now()
	for {
		err := through(addr)
		if err == nil {
			return addr, proc, nil
		}
		if time.Since(began) > patience {
			return "", nil, fmt.Errorf("%s does not forward: %w", p.name, err)
		}
	}
}
