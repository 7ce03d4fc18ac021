//go:build linux

package main

import (
	"regexp"
	"strconv"
	"strings"

	"minimail/internal/testbed"
)

type postfix struct {
	*world
	program *testbed.Postfix
}

func (w *world) newPostfix() (p *postfix) {
	unpacked := w.unpack("postfix")
	w.must(w.near(func() error { p = &postfix{w, testbed.NewPostfix(w, unpacked, w.port)}; return nil }))
	return p
}

func (p *postfix) send(number, lines int) {
	p.program.Send(p, "ups@soak.example", "you@soak.example", unixMail(number, lines))
}

func (p *postfix) left() int { return p.program.Left() }

var (
	postfixTook  = regexp.MustCompile(`postfix/cleanup\[\d+\]: (\w+): message-id=<(\d+)\.1@soak\.example>`)
	postfixTried = regexp.MustCompile(`postfix/(?:smtp|relay|error|bounce)\[\d+\]: (\w+): to=.* status=(\w+) \((.*)\)`)
)

func (p *postfix) told() (all []told) {
	log := p.program.Log()
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
