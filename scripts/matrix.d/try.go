//go:build linux

package main

import (
	"bufio"
	"bytes"
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

// play starts the hosts and writes ssh_config. The host with the fault is far,
// or jump, and then far is behind it.
func (l *login) play(port int) (stop func()) {
	w, f, server := l.w, l.f, l.c.server
	var stops []func()
	to := f.far
	switch {
	case f.plays != nil:
		stops = append(stops, w.listen(port, f.plays))
	case f.cut:
		real, end := w.newPort(), w.newPort()
		relayed := &relay{to: real}
		to = fmt.Sprint("127.0.0.1:", end)
		stops = append(stops, w.start(server, l.dir, real, f), w.listen(port, relayed.serve), w.listen(end, relayed.cut))
	case !f.dead:
		stops = append(stops, w.start(server, l.dir, port, f))
	}
	config := filepath.Join(l.dir, "config")
	text := ""
	bad := l.host(port, f)
	if f.way != directly {
		good := w.newPort()
		if !f.behind {
			stops = append(stops, w.start(server, l.dir, good, fault{}))
		}
		jump, jumps := bad, "jump"
		bad = l.host(good, fault{})
		switch f.way {
		case byFirst, bySecond:
			other := w.newPort()
			stops = append(stops, w.start(server, l.dir, other, fault{}))
			text = "Host other\n" + l.host(other, fault{})
			jumps = map[way]string{byFirst: "jump,other", bySecond: "other,jump"}[f.way]
		case behindOne:
			jump, bad = bad, jump
		}
		text += "Host jump\n" + jump
		line := "ProxyJump " + jumps
		if f.way == byCommand {
			line = "ProxyCommand " + l.c.client.client + " -F " + config + " -W [%h]:%p jump"
		}
		bad = line + "\n" + bad
	}
	w.write(config, text+"Host far\n"+bad)
	if strings.Contains(f.name, "MaxStartups") {
		c, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", port))
		w.must(err)
		_, _ = bufio.NewReader(c).ReadString('\n')
		stops = append(stops, func() { c.Close() })
	}
	near := w.newPort()
	if f.taken {
		stops = append(stops, w.listen(near, func(net.Conn) {}), w.listenAt("[::1]", near, func(net.Conn) {}))
	}
	if to == "" {
		to = w.far
	}
	l.argv = []string{w.path("minimail"), "--host", "far", "--ssh", l.c.client.client, "--ssh-config", config, "--forward", fmt.Sprintf("%d:%d:%s", w.newPort(), near, to),
		"--protocol", "smtp", "--settings", os.DevNull, "--pid-file", filepath.Join(l.dir, "pid"), "--user", "nobody", "--wait", fmt.Sprint(5 + f.slow), "--ssh-option", fmt.Sprint("ConnectTimeout=", max(2, f.slow))}
	if strings.Contains(f.name, "PerSource") { // one that the host counts
		_ = exec.Command(l.c.client.client, "-F", os.DevNull, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-i", w.path("other"), "-p", fmt.Sprint(port), "me@127.0.0.1").Run()
	}
	return func() {
		for _, s := range stops {
			s()
		}
	}
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
