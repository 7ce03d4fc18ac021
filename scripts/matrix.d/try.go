//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"minimail/tunnel/openssh"
)

// A login is a fault, played, and what minimail makes of it.
type login struct {
	w    *work
	c    column
	f    fault
	dir  string
	argv []string

	stops []func()

	heard   openssh.Heard // by the daemon
	verdict openssh.Verdict
	refusal string // that its client got; or a greeting
	pause   time.Duration
	log     string
	check   struct{ points, fixes, all string }
}

// try plays f, and says what came of it.
func (w *work) try(c column, f fault) string {
	port := w.newPort()
	l := &login{w: w, c: c, f: f, dir: w.path(fmt.Sprint(port))}
	w.must(os.Mkdir(l.dir, 0o755))
	defer l.play(port)()
	l.runCheck()
	l.runDaemon()
	bad := l.judge()
	if bad != "" {
		w.write(filepath.Join(l.dir, "why"), fmt.Sprintf("%s, %s to %s: %s\n\n421: %s\n\n%s\n\n%s\n", f.name, c.client.name, c.server.name, bad, l.refusal, l.check.all, l.log))
		fmt.Fprintf(os.Stderr, "%s, %s to %s: %s (%s)\n", f.name, c.client.name, c.server.name, bad, l.dir)
		return bad
	}
	return "ok"
}

// play starts the hosts and writes ssh_config. The host with the fault is far, or
// jump: then far is behind it. What it starts, stop ends.
func (l *login) play(port int) (stop func()) {
	w, f := l.w, l.f
	config := filepath.Join(l.dir, "config")
	to := l.serve(port)
	bad := l.host(port, f)
	hosts := "Host far\n" + bad
	if f.way != directly {
		hosts = l.byWay(bad, config)
	}
	w.write(config, hosts)
	if strings.Contains(f.name, "MaxStartups") {
		c, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", port))
		w.must(err)
		_, _ = bufio.NewReader(c).ReadString('\n')
		l.ends(func() { c.Close() })
	}
	near := w.newPort()
	if f.taken {
		l.ends(w.listen(near, func(net.Conn) {}), w.listenAt("[::1]", near, func(net.Conn) {}))
	}
	l.argv = []string{w.path("minimail"), "--host", "far", "--ssh", l.c.client.client, "--ssh-config", config, "--forward", fmt.Sprintf("%d:%d:%s", w.newPort(), near, to),
		"--protocol", "smtp", "--settings", os.DevNull, "--pid-file", filepath.Join(l.dir, "pid"), "--user", "nobody", "--wait", fmt.Sprint(5 + f.slow), "--ssh-option", fmt.Sprint("ConnectTimeout=", max(2, f.slow))}
	if strings.Contains(f.name, "PerSource") { // one that the host counts
		_ = exec.Command(l.c.client.client, "-F", os.DevNull, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-i", w.path("other"), "-p", fmt.Sprint(port), "me@127.0.0.1").Run()
	}
	return func() {
		for _, s := range l.stops {
			s()
		}
	}
}

func (l *login) ends(stops ...func()) { l.stops = append(l.stops, stops...) }

// serve starts the host with the fault, and returns the far end of the mails.
func (l *login) serve(port int) (to string) {
	w, f := l.w, l.f
	switch {
	case f.plays != nil:
		l.ends(w.listen(port, f.plays))
	case f.cut:
		real, end := w.newPort(), w.newPort()
		relayed := &relay{to: real}
		l.ends(w.start(l.c.server, l.dir, real, f), w.listen(port, relayed.serve), w.listen(end, relayed.cut))
		return fmt.Sprint("127.0.0.1:", end)
	case !f.dead:
		l.ends(w.start(l.c.server, l.dir, port, f))
	}
	return cmp.Or(f.far, w.far)
}

// byWay starts the other hosts on the way to far, and is the ssh_config of them
// all; bad are the lines of the host with the fault.
func (l *login) byWay(bad, config string) string {
	good := l.w.newPort()
	if !l.f.behind {
		l.ends(l.w.start(l.c.server, l.dir, good, fault{}))
	}
	jump, far := bad, l.host(good, fault{})
	line, others := "ProxyJump jump", ""
	switch l.f.way {
	case byFirst, bySecond:
		other := l.w.newPort()
		l.ends(l.w.start(l.c.server, l.dir, other, fault{}))
		others = "Host other\n" + l.host(other, fault{})
		line = map[way]string{byFirst: "ProxyJump jump,other", bySecond: "ProxyJump other,jump"}[l.f.way]
	case behindOne:
		jump, far = far, bad
	case byCommand:
		line = "ProxyCommand " + l.c.client.client + " -F " + config + " -W [%h]:%p jump"
	}
	return others + "Host jump\n" + jump + "Host far\n" + line + "\n" + far
}

// host are the lines of ssh_config for one.
func (l *login) host(port int, f fault) string {
	w := l.w
	user := f.user
	if user == "" {
		user = "me"
	}
	known := filepath.Join(l.dir, fmt.Sprint("known", port))
	name := fmt.Sprintf("[127.0.0.1]:%d ", port)
	w.write(known, map[string]string{
		"":          name + l.c.server.hostKey,
		"other":     name + w.read(w.path("otherhostkey.pub")),
		"revoked":   "@revoked " + name + l.c.server.hostKey,
		"authority": "@cert-authority " + name + w.read(w.path("authority.pub")),
	}[f.known])
	lines := append(slices.Clone(f.lines), "HostName 127.0.0.1", fmt.Sprint("Port ", port), "User "+user)
	if !strings.Contains(strings.Join(lines, " "), "IdentityFile") || strings.Contains(f.name, "too many") {
		lines = append(lines, "IdentityFile "+w.path("key"))
	}
	text := strings.Join(append(lines, "IdentitiesOnly yes", "UserKnownHostsFile "+known, "GlobalKnownHostsFile /dev/null", ""), "\n")
	return strings.ReplaceAll(text, "$", w.dir+"/")
}

// runCheck asks minimail check.
func (l *login) runCheck() {
	out, _ := exec.Command(l.argv[0], append(slices.Clone(l.argv[1:]), "check", "--json")...).CombinedOutput()
	var said struct {
		Points []struct {
			Point, Status, Text string
			Fix                 []string
		}
	}
	l.check.all = string(out)
	_ = json.Unmarshal(out, &said)
	for _, p := range said.Points {
		if p.Status == "failure" {
			l.check.points += p.Point + ": " + p.Text + "\n"
			l.check.fixes += strings.Join(p.Fix, "\n") + "\n"
		}
	}
}

// runDaemon sends a client to minimail, and reads in its log what ssh has said.
func (l *login) runDaemon() {
	log := filepath.Join(l.dir, "log")
	cmd := exec.Command(l.argv[0], append(slices.Clone(l.argv[1:]), "-X", "-v", "--log-format", "json", "--idle", "0", "--jitter", "0")...)
	out, err := os.Create(log)
	l.w.must(err)
	cmd.Stdout, cmd.Stderr = out, out
	l.w.must(cmd.Start())
	out.Close()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for !strings.Contains(l.w.read(log), "listening") && cmdRuns(ended) {
		time.Sleep(20 * time.Millisecond)
	}
	port, _, _ := strings.Cut(l.argv[slices.Index(l.argv, "--forward")+1], ":")
	if c, err := net.Dial("tcp4", "127.0.0.1:"+port); err == nil {
		_ = c.SetDeadline(time.Now().Add(40 * time.Second))
		l.refusal, _ = bufio.NewReader(c).ReadString('\n')
		c.Close()
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-ended
	l.log = l.w.read(log)
	l.replay()
}

func cmdRuns(ended chan struct{}) bool {
	select {
	case <-ended:
		return false
	default:
		return true
	}
}

// replay reads the log as minimail does. The first launch counts; the 421 may be
// about a later one, with another line of the same meaning.
func (l *login) replay() {
	fresh := func() *openssh.Reader { return openssh.NewReader(func() bool { return l.f.way != directly }) }
	r, first := fresh(), true
	end := func() {
		if v := r.Verdict(); first || slices.Contains(l.f.want, v.Means) && strings.Contains(l.refusal, v.Line) {
			l.verdict, first = v, false
		}
		r = fresh()
	}
	for line := range bytes.Lines([]byte(l.log)) {
		var said struct{ SSH, Stderr, Back_off string }
		_ = json.Unmarshal(line, &said)
		if d, err := time.ParseDuration(said.Back_off); err == nil {
			if first {
				l.pause = d
			}
			end()
		}
		if said.SSH+said.Stderr == "" {
			continue
		}
		if h := r.Read(said.SSH+said.Stderr, said.SSH != ""); h.Why != "" && first {
			l.heard = h
		}
		if v := r.Verdict(); v.Means == openssh.Forbidden || v.Means == openssh.FarRefused { // and it stays
			l.verdict, first = v, false
		}
	}
	if first {
		end()
	}
}

// A relay stands before a real server, until it is cut.
type relay struct {
	to int

	mu   sync.Mutex
	open []net.Conn
}

func (r *relay) serve(c net.Conn) {
	s, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", r.to))
	if err != nil {
		return
	}
	defer s.Close()
	r.mu.Lock()
	r.open = append(r.open, c)
	r.mu.Unlock()
	go func() { _, _ = io.Copy(s, c); s.Close() }()
	_, _ = io.Copy(c, s)
}

// cut is what the far end does when it is reached.
func (r *relay) cut(net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		c.Close()
	}
	r.open = nil
}
