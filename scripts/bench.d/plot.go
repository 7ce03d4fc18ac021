package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot has a line for each row in which somebody is compared with somebody:
// how long it takes, on one logarithmic scale for all, minimail and the others.
// Throughput is the time of a GB.
const (
	plotWidth = 1110 // from -70 on, for long names
	labels    = 395  // where the scale begins
	scale     = 460
	rowHeight = 22
	top       = 104
	least     = 30e-6 // seconds
	most      = 30
)

func across(seconds float64) float64 {
	seconds = min(max(seconds, least), most)
	return labels + scale*math.Log(seconds/least)/math.Log(most/least)
}

// looks are the colours of who is compared.
var looks = []struct{ name, colour string }{
	{us, "#2e8b57"}, {bare, "#222222"}, {"socat", "#d98c00"}, {"haproxy", "#3b78c4"}, {"nginx", "#a04fb5"},
	{"systemd-socket-proxyd", "#c0392b"}, {"msmtp", "#888888"},
}

func colour(name string) string {
	for _, l := range looks {
		if l.name == name {
			return l.colour
		}
	}
	return "#cccccc"
}

// plotted are the rows that have a place in the plot.
func plotted(rows []*row) (some []*row) {
	for _, r := range rows {
		if len(r.theirs) > 0 && (r.in == times || r.in == speed) {
			some = append(some, r)
		}
	}
	return some
}

func plot(all []*row) string {
	rows := plotted(all)
	var s strings.Builder
	bottom := top + rowHeight*len(rows)
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-70 0 %d %d" font-family="sans-serif" font-size="12">
<title>minimail beside a bare ssh and other forwarders</title>
<rect x="-70" width="100%%" height="100%%" fill="#ffffff"/>
<text x="20" y="28" font-size="18" font-weight="bold">How long it takes: minimail beside a bare ssh and other forwarders</text>
`, plotWidth, bottom+34)
	for i, l := range looks {
		x := 30 + 160*i
		fmt.Fprintf(&s, `<circle cx="%d" cy="52" r="5" fill="%s"/><text x="%d" y="56">%s</text>`+"\n", x, l.colour, x+10, l.name)
	}
	for _, tick := range []struct {
		at   float64
		name string
	}{{1e-4, "0.1 ms"}, {1e-3, "1 ms"}, {1e-2, "10 ms"}, {0.1, "0.1 s"}, {1, "1 s"}, {10, "10 s"}} {
		x := across(tick.at)
		fmt.Fprintf(&s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="#dddddd"/><text x="%.0f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n",
			x, top-8, x, bottom, x, top-14, tick.name)
	}
	for i, r := range rows {
		r.draw(&s, top+rowHeight*i)
	}
	fmt.Fprintf(&s, `<text x="20" y="%d" fill="#555">Medians; further left is faster. Logarithmic scale. The number is the ratio to the best of the others.</text>`+"\n</svg>\n", bottom+22)
	return s.String()
}

// draw draws the row's line at y.
func (r *row) draw(s *strings.Builder, y int) {
	what, took := r.what, func(v float64) float64 { return v }
	if r.in == speed {
		what, took = what+", a GB", func(v float64) float64 { return 1e9 / v }
	}
	middle := y + rowHeight/2
	ours, best := across(took(r.ours.median())), across(took(r.best().got.median()))
	fmt.Fprintf(s, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labels-8, middle+4, html.EscapeString(what))
	fmt.Fprintf(s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="#bbbbbb" stroke-width="3"/>`+"\n", ours, middle, best, middle)
	for _, who := range append(r.theirs[:len(r.theirs):len(r.theirs)], side{us, r.ours}) {
		fmt.Fprintf(s, `<circle cx="%.0f" cy="%d" r="5" fill="%s"><title>%s: %s</title></circle>`+"\n",
			across(took(who.got.median())), middle, colour(who.name), who.name, r.in.format(who.got.median()))
	}
	ratio := r.ratio()
	if r.atLeast {
		ratio = 1 / ratio
	}
	fmt.Fprintf(s, `<text x="%d" y="%d">%.2f</text>`+"\n", labels+scale+20, middle+4, ratio)
}
