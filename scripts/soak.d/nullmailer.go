//go:build linux

package main

import (
	"regexp"
	"strconv"
	"strings"

	"minimail/internal/testbed"
)

type nullmailer struct {
	*world
	program *testbed.Nullmailer
}

func (w *world) newNullmailer() (n *nullmailer) {
	unpacked := w.unpack("nullmailer")
	w.must(w.near(func() error { n = &nullmailer{w, testbed.NewNullmailer(w, unpacked, w.port)}; return nil }))
	return n
}

func (n *nullmailer) send(number, lines int) {
	n.program.Send(n, "ups@soak.example", "you@soak.example", unixMail(number, lines))
}

func (n *nullmailer) left() int { return n.program.Left() }

// A try of its: what the protocol has said (nothing, if it was killed), and what
// nullmailer-send made of that.
var nullmailerTried = regexp.MustCompile(`(?m)^Message-Id: <(\d+)\.1@soak\.example>\n(?:smtp: (.*)\n)?(Sent file|Sending .*)`)

func (n *nullmailer) told() (all []told) {
	for _, m := range nullmailerTried.FindAllStringSubmatch(n.program.Log(), -1) {
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
