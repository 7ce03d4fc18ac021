package testbed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Postfix is a null client: it gives all mail to one relay host. It is
// Debian's, unpacked anywhere, and all that it writes is in a directory of its
// own, so it does not matter whether this machine has one.
type Postfix struct {
	dir, unpacked string
}

// Whom its programs become; both are on every Debian, and may not be the same.
const (
	postfixOwner = "uucp"
	postfixGroup = "news"
)

// NewPostfix starts one that tries again after a few seconds. To start it on the side
// of a link is the caller's part.
func NewPostfix(t testing.TB, unpacked string, relayPort int, lines ...string) *Postfix {
	t.Helper()
	dir, err := os.MkdirTemp("", "postfix-") // short: its sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &Postfix{dir, unpacked}
	p.configure(t, relayPort, lines)
	p.makeQueue(t)
	cmd := p.Command("usr/lib/postfix/sbin/master", "-d", "-c", p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Postfix's log:\n%s", p.Log())
		}
	})
	Eventually(t, "Postfix runs", func() bool { return strings.Contains(p.Log(), "daemon started") })
	return p
}

func (p *Postfix) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Postfix) configure(t testing.TB, relayPort int, lines []string) {
	t.Helper()
	sbin, lib := filepath.Join(p.unpacked, "usr/sbin"), filepath.Join(p.unpacked, "usr/lib/postfix")
	env := fmt.Sprintf("MAIL_CONFIG=%s LD_LIBRARY_PATH=%s LANG=C", p.dir, lib)
	Write(t, p.path("main.cf"), strings.Join(append([]string{
		"compatibility_level = 3.7",
		"queue_directory = " + p.path("queue"), "data_directory = " + p.path("data"), "meta_directory = " + p.dir,
		"command_directory = " + sbin, "daemon_directory = " + lib + "/sbin", "shlib_directory = " + lib,
		"import_environment = " + env, "export_environment = " + env,
		"mail_owner = " + postfixOwner, "setgid_group = " + postfixGroup, "default_privs = " + RunAs,
		"maillog_file = " + p.path("log"), "maillog_file_prefixes = " + p.dir,
		"myhostname = postfix.example", "mydestination =", "local_recipient_maps =", "alias_maps =", "alias_database =",
		"inet_interfaces = loopback-only", "inet_protocols = ipv4", "smtp_host_lookup = native",
		fmt.Sprintf("relayhost = [127.0.0.1]:%d", relayPort),
		// Sooner it may look at a mail before the try before has let go of that, and
		// then forgets it until it is started again ("skipped, still being delivered").
		"enable_long_queue_ids = yes", "queue_run_delay = 2s", "minimal_backoff_time = 4s", "maximal_backoff_time = 5s",
	}, append(lines, "")...), "\n"))
	Write(t, p.path("master.cf"), `pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`)
}

// makeQueue does what `postfix check` does for one that is installed.
func (p *Postfix) makeQueue(t testing.TB) {
	t.Helper()
	owner, group := UidOf(t, postfixOwner), UidOf(t, postfixGroup) // its group has the same number
	for dir, mode := range map[string]os.FileMode{"data": 0o700, "queue": 0o755, "queue/pid": 0o755, "queue/public": 0o710, "queue/maildrop": 0o730,
		"queue/active": 0o700, "queue/bounce": 0o700, "queue/corrupt": 0o700, "queue/defer": 0o700, "queue/deferred": 0o700, "queue/flush": 0o700,
		"queue/hold": 0o700, "queue/incoming": 0o700, "queue/private": 0o700, "queue/saved": 0o700, "queue/trace": 0o700} {
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p.path(dir), mode); err != nil {
			t.Fatal(err)
		}
		if dir == "queue" || dir == "queue/pid" {
			continue // root's
		}
		if err := unix.Lchown(p.path(dir), owner, group); err != nil {
			t.Fatal(err)
		}
	}
}

// Command is a program of its, with its environment.
func (p *Postfix) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.unpacked, program), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MAIL_CONFIG=" + p.dir, "LD_LIBRARY_PATH=" + filepath.Join(p.unpacked, "usr/lib/postfix")}
	return cmd
}

// Send gives it a mail, whose lines end with LF.
func (p *Postfix) Send(t testing.TB, from, to string, mail []byte) {
	t.Helper()
	cmd := p.Command("usr/sbin/sendmail", "-i", "-f", from, to)
	cmd.Stdin = bytes.NewReader(mail)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("Postfix does not take a mail: %v\n%s", err, out)
	}
}

// Log is what it has logged up to now.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(p.path("log"))
	return string(b)
}

// Left is about how many mails are in its queue, and 0 only if there is none: it
// looks twice where they come back to.
func (p *Postfix) Left() (n int) {
	for _, dir := range []string{"maildrop", "incoming", "deferred", "active", "deferred"} {
		_ = filepath.WalkDir(p.path("queue/"+dir), func(_ string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				n++
			}
			return nil
		})
	}
	return n
}
