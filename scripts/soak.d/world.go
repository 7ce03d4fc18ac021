//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"minimail/internal/testbed"
	"minimail/internal/testbed/link"
)

// A world is a host with sshd and a mail server, a minimail that runs as a
// daemon in front of them, and a nullmailer.
type world struct {
	*stage
	dir, mails string
	programs   string // a directory: minimail, mailsink
	near, far  func(func() error) error
	host       *testbed.Host
	sinkAt     string
	port       int
	options    []string // of minimail

	mu   sync.Mutex
	sink *exec.Cmd
}

// here is the side where there is no link.
func here(f func() error) error { return f() }

func newWorld(s *stage, c *link.Conditions) *world {
	w := &world{stage: s, dir: s.TempDir(), near: here, far: here}
	w.mails = filepath.Join(w.dir, "mails")
	w.must(os.Chmod(w.dir, 0o755))
	w.build()
	if c != nil {
		l, host, _ := testbed.NewLongHost(s, *c)
		w.host, w.near, w.far = host, l.Near.Do, l.Far.Do
	} else {
		w.host = testbed.NewHost(s)
	}
	w.sinkAt = "127.0.0.1:0"
	w.startSink()
	s.Cleanup(w.killSink)
	w.must(w.near(func() error { w.port = testbed.FreePort(s); return nil }))
	near := testbed.FreePort(s)
	w.options = []string{"--host", "far", "--ssh-config", w.host.Path("ssh_config"), "--settings", os.DevNull,
		"--forward", fmt.Sprintf("%d:%d:%s", w.port, near, w.sinkAt), "--protocol", "smtp", "--user", testbed.RunAs,
		"--pid-file", w.path("pid"), "--log-file", w.path("minimail.log"), "--log-format", "json",
		"--idle", "200ms", "--jitter", "400ms", "--wait", "20s", "--drain", "1s"}
	w.minimail("start")
	s.Cleanup(func() { w.minimail("stop") })
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) build() {
	w.programs = w.path("bin")
	w.must(os.MkdirAll(w.programs, 0o755))
	for name, of := range map[string]string{"minimail": ".", "mailsink": "./scripts/mailsink"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(w.programs, name), of).CombinedOutput(); err != nil {
			w.Fatalf("cannot build %s: %v\n%s", name, err, out)
		}
	}
}

// minimail runs a word of it, on the near side.
func (w *world) minimail(word string) {
	w.must(w.near(func() error {
		out, err := exec.Command(filepath.Join(w.programs, "minimail"), append(w.options, word)...).CombinedOutput()
		if err != nil && word != "stop" {
			return fmt.Errorf("minimail %s: %w: %s", word, err, out)
		}
		return nil
	}))
}

// pid is minimail's, or 0.
func (w *world) pid() int {
	b, _ := os.ReadFile(w.path("pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// startSink starts the mail server, on the far side, where it was before.
func (w *world) startSink() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for try := 0; ; try++ {
		cmd := exec.Command(filepath.Join(w.programs, "mailsink"), "--listen", w.sinkAt, "--dir", w.mails, "--quiet")
		out, err := cmd.StdoutPipe()
		w.must(err)
		w.must(w.far(cmd.Start))
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			w.sink, w.sinkAt = cmd, strings.TrimSpace(line)
			return
		}
		_ = cmd.Wait()
		if try == 50 {
			w.Fatal("the mail server does not start")
		}
		time.Sleep(100 * time.Millisecond) // its port is not free yet
	}
}

func (w *world) killSink() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.sink.Process.Kill()
	_ = w.sink.Wait()
}

// dial connects to minimail as a client.
func (w *world) dial() (c net.Conn, err error) {
	err = w.near(func() error {
		c, err = net.DialTimeout("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(w.port)), 5*time.Second)
		return err
	})
	return c, err
}

// ssh is the pids of minimail's tunnels.
func (w *world) ssh() []int {
	return testbed.CommandsWith("-F\x00" + w.host.Path("ssh_config") + "\x00-N")
}

// A measure is of minimail: its open sockets, and its memory in kB.
type measure struct{ sockets, rss int }

func (w *world) measure() (m measure) {
	m.sockets = testbed.Sockets(w.pid())
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid()))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	_, _ = fmt.Sscan(rest, &m.rss)
	return m
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}
