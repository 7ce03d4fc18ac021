//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"minimail/internal/testbed"
)

// A nullmailer is Debian's, with its queue in a directory of ours.
type nullmailer struct {
	*world
	dir string
}

func (w *world) newNullmailer() *nullmailer {
	n := &nullmailer{w, w.path("nullmailer")}
	unpacked := w.unpack("nullmailer")
	for _, dir := range []string{n.dir, n.path("conf"), n.path("queue/queue"), n.path("queue/tmp"), n.path("queue/failed")} {
		w.must(os.MkdirAll(dir, 0o755))
	}
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

func (n *nullmailer) send(number, lines int) {
	cmd := n.command("bin/nullmailer-inject")
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(mailOf(number, 1, lines), []byte("\r"), nil))
	if out, err := cmd.CombinedOutput(); err != nil {
		n.Fatalf("nullmailer-inject: %v\n%s", err, out)
	}
}

func (n *nullmailer) left() int { return entries(n.path("queue/queue")) }

// A try of its: what the protocol has said (nothing, if it was killed), and what
// nullmailer-send made of that.
var nullmailerTried = regexp.MustCompile(`(?m)^Message-Id: <(\d+)\.1@soak\.example>\n(?:smtp: (.*)\n)?(Sent file|Sending .*)`)

func (n *nullmailer) told() (all []told) {
	log, err := os.ReadFile(n.path("log"))
	n.must(err)
	for _, m := range nullmailerTried.FindAllStringSubmatch(string(log), -1) {
		t := told{by: "nullmailer", attempt: 1, sent: m[3] == "Sent file", words: m[2] + "; " + m[3]}
		t.mail, _ = strconv.Atoi(m[1])
		// It does not say at which step it has failed, but what the server has.
		replied := regexp.MustCompile(`^Failed: ([45])\d\d `).FindStringSubmatch(m[2])
		t.unclear = replied == nil && !strings.Contains(m[2], "Connect failed")
		t.permanent = replied != nil && replied[1] == "5"
		all = append(all, t)
	}
	return all
}
