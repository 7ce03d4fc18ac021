//go:build linux

package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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

// A postfix is a null client.
type postfix struct {
	*world
	null *testbed.Postfix
}

func (w *world) newPostfix() (p *postfix) {
	unpacked := w.unpack("postfix")
	w.must(w.near(func() error { p = &postfix{w, testbed.NewPostfix(w, unpacked, w.port)}; return nil }))
	return p
}

func (p *postfix) send(number, lines int) {
	p.null.Send(p, "ups@soak.example", "you@soak.example", []byte(strings.ReplaceAll(string(mailOf(number, 1, lines)), "\r", "")))
}

func (p *postfix) left() int { return p.null.Left() }

var (
	postfixTook  = regexp.MustCompile(`postfix/cleanup\[\d+\]: (\w+): message-id=<(\d+)\.1@soak\.example>`)
	postfixTried = regexp.MustCompile(`postfix/(?:smtp|relay|error|bounce)\[\d+\]: (\w+): to=.* status=(\w+) \((.*)\)`)
)

func (p *postfix) told() (all []told) {
	log := p.null.Log()
	number := map[string]int{}
	for _, m := range postfixTook.FindAllStringSubmatch(log, -1) {
		number[m[1]], _ = strconv.Atoi(m[2])
	}
	for _, m := range postfixTried.FindAllStringSubmatch(log, -1) {
		all = append(all, told{by: "Postfix", mail: number[m[1]], attempt: 1, words: m[3], sent: m[2] == "sent", permanent: m[2] == "bounced",
			unclear: strings.Contains(m[3], "while sending end of data")})
	}
	return all
}
