package testbed

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// A Nullmailer gives all mail to one server. It is Debian's, unpacked anywhere,
// with its queue and settings in a directory of its own.
type Nullmailer struct {
	dir string
}

// NewNullmailer starts one that tries again after a second or two. To start it on
// the side of a link is the caller's part.
func NewNullmailer(t testing.TB, unpacked string, port int) *Nullmailer {
	t.Helper()
	n := &Nullmailer{PublicDir(t)}
	for _, dir := range []string{"conf", "queue/queue", "queue/tmp", "queue/failed"} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"usr/sbin": "sbin", "usr/bin": "bin", "usr/lib/nullmailer": "protocols"} {
		Run(t, "cp", "-R", "--no-preserve=mode", filepath.Join(unpacked, from), n.path(to))
		Run(t, "chmod", "-R", "755", n.path(to)) // no setuid
	}
	if err := syscall.Mkfifo(n.path("queue/trigger"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"mailname": "nullmailer.example", "conf/remotes": "127.0.0.1 smtp port=" + strconv.Itoa(port),
		"conf/pausetime": "1", "conf/maxpause": "2", "conf/sendtimeout": "60"} {
		Write(t, n.path(file), text+"\n")
	}
	n.start(t)
	return n
}

func (n *Nullmailer) path(name string) string { return filepath.Join(n.dir, name) }

func (n *Nullmailer) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(n.path(program), args...)
	cmd.Env = append(os.Environ(), "NULLMAILER_TEST_PREFIX="+n.dir)
	return cmd
}

func (n *Nullmailer) start(t testing.TB) {
	t.Helper()
	log, err := os.Create(n.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := n.command("sbin/nullmailer-send")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// Send gives it a mail, whose lines end with LF.
func (n *Nullmailer) Send(t testing.TB, from, to string, mail []byte) {
	t.Helper()
	cmd := n.command("bin/nullmailer-inject", "-f", from, to)
	cmd.Stdin = bytes.NewReader(mail)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nullmailer does not take a mail: %v\n%s", err, out)
	}
}

// Log is what it has logged up to now.
func (n *Nullmailer) Log() string {
	b, _ := os.ReadFile(n.path("log"))
	return string(b)
}

// Left is how many mails are in its queue.
func (n *Nullmailer) Left() int {
	all, _ := os.ReadDir(n.path("queue/queue"))
	return len(all)
}
