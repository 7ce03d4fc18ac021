//go:build linux

package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"time"

	"minimail/internal/testbed"
)

// A queue is a mail program that keeps a mail and tries until it is sent.
type queue interface {
	send(number, lines int) // a mail's text has the attempt 1, however often it is tried
	left() int              // mails that are still in it
	told() []told           // what it was told, try by try
}

// unpack has a package of Debian's in a directory. An installed one would begin
// to send by itself, to where this machine has been told.
func (w *world) unpack(name string) (dir string) {
	deb, dir := w.path(name+"-deb"), w.path(name+"-unpacked")
	testbed.Run(w, "mkdir", deb, dir)
	download := exec.Command("apt-get", "-o", "APT::Sandbox::User=root", "download", name)
	download.Dir = deb
	if out, err := download.CombinedOutput(); err != nil {
		w.Fatalf("cannot download %s: %v\n%s", name, err, out)
	}
	all, _ := filepath.Glob(filepath.Join(deb, "*.deb"))
	testbed.Run(w, "dpkg-deb", "-x", all[0], dir)
	return dir
}

// waitFor returns when a queue has less than so many mails, or when the time is up.
func (r *run) waitFor(q queue, less int) {
	for q.left() >= less && time.Now().Before(r.deadline) {
		time.Sleep(200 * time.Millisecond)
	}
}

// unixMail is a mail as it is given to a queue.
func unixMail(number, lines int) []byte {
	return bytes.ReplaceAll(mailOf(number, 1, lines), []byte("\r"), nil)
}
