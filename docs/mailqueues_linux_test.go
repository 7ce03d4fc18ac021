package docs_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// The mail servers of docs/mail.md that keep a mail until it can leave.

func TestNullmailerKeepsAMailUntilTheHostIsBack(t *testing.T) {
	t.Parallel()
	p := newPostOffice(t, "nullmailer")
	for _, f := range []string{"remotes", "allmailfrom", "adminaddr", "maxpause"} {
		p.copy(t, "nullmailer/"+f, "/etc/nullmailer/"+f)
	}
	// As the package's init script does it.
	const trigger = "/var/spool/nullmailer/trigger"
	p.Run(t, 0, "mkfifo", trigger)
	p.Run(t, 0, "chown", "mail:root", trigger)
	p.Run(t, 0, "chmod", "622", trigger)
	daemon := exec.Command("setpriv", "--reuid=mail", "--regid=mail", "--clear-groups", "/usr/sbin/nullmailer-send")
	said := new(testbed.Words)
	daemon.Stdout, daemon.Stderr = said, said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("nullmailer says:\n%s", said)
		}
	})
	said.Wait(t, "Rescanning queue")

	p.keepsMail(t, "/var/spool/nullmailer/queue/*", func() { p.Run(t, 0, "sh", "-c", "echo 1 > "+trigger) })
	for _, why := range []string{"Connection refused", `Permission denied \(publickey\)`} {
		if !said.Has(`smtp: Failed: 421 .* minimail: no tunnel to far: .*` + why) {
			t.Errorf("the reason is not in nullmailer's log: %s", why)
		}
	}
	if failed, _ := os.ReadDir("/var/spool/nullmailer/failed"); len(failed) > 0 {
		t.Errorf("given up: %v", failed)
	}
}

func TestDMAKeepsAMailUntilTheHostIsBack(t *testing.T) {
	t.Parallel()
	p := newPostOffice(t, "dma")
	p.copy(t, "dma.conf", "/etc/dma/dma.conf")
	p.copy(t, "aliases", "/etc/aliases")
	p.keepsMail(t, "/var/spool/dma/M*", func() { p.runsDMA(t) })
}

// A 421 in place of EHLO's answer would have dma bounce the mail.
func TestDMAKeepsAMailWhoseTunnelIsLostBeforeEHLOIsAnswered(t *testing.T) {
	t.Parallel()
	var sessions atomic.Int32
	asked := make(chan struct{})
	p := newPostOfficeBefore(t, "dma", func(p *postOffice) string {
		return testbed.Listen(t, func(c net.Conn) {
			if sessions.Add(1) > 1 {
				p.hears(t, c)
				return
			}
			_, _ = io.WriteString(c, "220 far.test ESMTP\r\n")
			_, _ = c.Read(make([]byte, 100))
			close(asked)
			_, _ = io.Copy(io.Discard, c)
		})
	})
	p.copy(t, "dma.conf", "/etc/dma/dma.conf")
	p.copy(t, "aliases", "/etc/aliases")
	p.do(t, p.home(t, "me"), mailxToRoot)
	select {
	case <-asked:
	case <-time.After(testbed.Patience):
		t.Fatal("dma has not said EHLO")
	}
	_ = syscall.Kill(p.minimail.TheSSH(t), syscall.SIGKILL)
	p.minimail.Log.Wait(t, `client served.*end="tunnel lost"`)
	p.runsDMA(t)
	p.brings(t, "the queue's next run", mailText)
	testbed.Eventually(t, "the spool is empty", func() bool { return len(spooled("/var/spool/dma/M*")) == 0 })
	if n := len(p.arrived); n > 0 {
		t.Errorf("%d more mails: %+v", n, <-p.arrived)
	}
}

// runsDMA has dma try what is in its queue. There is a process for each mail, which
// tries again minutes later. As after a boot, there is none, and cron asks for a run.
func (p *postOffice) runsDMA(t *testing.T) {
	t.Helper()
	for _, pid := range p.processes("dma") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	testbed.Eventually(t, "no dma runs", func() bool { return len(p.processes("dma")) == 0 })
	p.Run(t, 0, "/usr/sbin/dma", "-q")
}

// keepsMail sends a mail each way that programs send mail; and one that stays
// in the spool while the host is down, and then rejects the key, although run
// has the queue run, and leaves when all is well. Nothing is bounced.
func (p *postOffice) keepsMail(t *testing.T, spool string, run func()) {
	t.Helper()
	home := p.home(t, "me")
	for _, line := range []string{mailxToRoot, "/usr/sbin/sendmail -i you@example.com < mail.txt"} {
		p.do(t, home, line)
		p.brings(t, line, mailText)
	}
	p.do(t, "/", cronsLine)
	p.brings(t, "cron", "hello\n")
	testbed.Eventually(t, "the spool is empty", func() bool { return len(spooled(spool)) == 0 })
	p.minimail.Down(t)

	p.Host.Stop()
	p.turnsAway(t, func() { p.do(t, home, mailxToRoot) })
	p.waits(t, spool)
	key := testbed.Read(t, p.Host.Path("key.pub"))
	testbed.Write(t, p.Host.Path("key.pub"), testbed.Read(t, p.Host.Path("otherkey.pub")))
	p.Host.Start(t)
	p.minimail.Forgets(t)
	p.turnsAway(t, run)
	p.waits(t, spool)
	testbed.Write(t, p.Host.Path("key.pub"), key)
	p.minimail.Forgets(t)
	run()
	p.brings(t, "the queue's next run", mailText)
	testbed.Eventually(t, "the spool is empty", func() bool { return len(spooled(spool)) == 0 })
	if n := len(p.arrived); n > 0 {
		t.Errorf("%d more mails: %+v", n, <-p.arrived)
	}
}

// turnsAway does something that makes a mail be tried and told 421.
func (p *postOffice) turnsAway(t *testing.T, do func()) {
	t.Helper()
	const event = "client turned away"
	before := p.minimail.Log.Count(event)
	do()
	testbed.Eventually(t, "a client is turned away", func() bool { return p.minimail.Log.Count(event) > before })
}

// waits fails the test unless a mail is in the spool, and none has arrived.
func (p *postOffice) waits(t *testing.T, spool string) {
	t.Helper()
	if files := spooled(spool); len(files) != 1 || len(p.arrived) > 0 {
		t.Fatalf("%d mails have arrived, and in the spool there are %v", len(p.arrived), files)
	}
}

func spooled(pattern string) []string {
	files, _ := filepath.Glob(pattern)
	return files
}
