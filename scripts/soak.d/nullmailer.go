//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"minimail/internal/testbed"
)

// A nullmailer is Debian's, with its queue in a directory of ours. An installed
// one would begin to send by itself, so its package is only unpacked.
type nullmailer struct {
	*world
	dir string
}

func (w *world) newNullmailer() *nullmailer {
	n := &nullmailer{w, w.path("nullmailer")}
	deb, unpacked := w.path("deb"), w.path("unpacked")
	for _, dir := range []string{deb, unpacked, n.dir, n.path("conf"), n.path("queue/queue"), n.path("queue/tmp"), n.path("queue/failed")} {
		w.must(os.MkdirAll(dir, 0o755))
	}
	download := exec.Command("apt-get", "-o", "APT::Sandbox::User=root", "download", "nullmailer")
	download.Dir = deb
	if out, err := download.CombinedOutput(); err != nil {
		w.Fatalf("cannot download nullmailer: %v\n%s", err, out)
	}
	all, _ := filepath.Glob(filepath.Join(deb, "*.deb"))
	testbed.Run(w, "dpkg-deb", "-x", all[0], unpacked)
	for from, to := range map[string]string{"usr/sbin": "sbin", "usr/bin": "bin", "usr/lib/nullmailer": "protocols"} {
		testbed.Run(w, "cp", "-R", "--no-preserve=mode", filepath.Join(unpacked, from), n.path(to))
		testbed.Run(w, "chmod", "-R", "755", n.path(to)) // no setuid
	}
	w.must(syscall.Mkfifo(n.path("queue/trigger"), 0o600))
	for file, text := range map[string]string{"mailname": "soak.example", "conf/remotes": "127.0.0.1 smtp port=" + strconv.Itoa(w.port),
		"conf/pausetime": "1", "conf/maxpause": "2", "conf/sendtimeout": "60"} {
		testbed.Write(w, n.path(file), text+"\n")
	}
	n.start()
	return n
}

func (n *nullmailer) path(name string) string { return filepath.Join(n.dir, name) }

func (n *nullmailer) command(program string) *exec.Cmd {
	cmd := exec.Command(n.path(program))
	cmd.Env = append(os.Environ(), "NULLMAILER_TEST_PREFIX="+n.dir)
	return cmd
}

func (n *nullmailer) start() {
	log, err := os.Create(n.path("log"))
	n.must(err)
	cmd := n.command("sbin/nullmailer-send")
	cmd.Stdout, cmd.Stderr = log, log
	n.must(n.near(cmd.Start))
	n.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// send gives it a mail. It is sent when it is no longer in the queue.
func (n *nullmailer) send(number, lines int) {
	cmd := n.command("bin/nullmailer-inject")
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(mailOf(number, 1, lines), []byte("\r"), nil))
	if out, err := cmd.CombinedOutput(); err != nil {
		n.Fatalf("nullmailer-inject: %v\n%s", err, out)
	}
}

var soakHeader = regexp.MustCompile(`(?m)^X-Soak: (\d+) `)

// in are the numbers of the mails in a directory of its: queue or failed.
func (n *nullmailer) in(dir string) map[int]bool {
	all := map[int]bool{}
	files, _ := filepath.Glob(n.path("queue/" + dir + "/*"))
	for _, f := range files {
		b, _ := os.ReadFile(f) // it may just have been sent
		if m := soakHeader.FindSubmatch(b); m != nil {
			number, _ := strconv.Atoi(string(m[1]))
			all[number] = true
		}
	}
	return all
}

// wait returns when the queue is empty, or at the deadline.
func (n *nullmailer) wait(deadline time.Time) {
	for len(n.in("queue")) > 0 && time.Now().Before(deadline) {
		time.Sleep(200 * time.Millisecond)
	}
}
