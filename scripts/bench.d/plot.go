package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot has a bar for each row: how much of what its target allows is used,
// on a logarithmic scale, with the target as a line at 1.
const (
	plotWidth = 1040
	labels    = 395 // where the bars begin
	barsWidth = 340
	rowHeight = 26
	top       = 84
	leastUsed = 0.01
	mostUsed  = 10
)

func across(used float64) float64 {
	used = min(max(used, leastUsed), mostUsed)
	return labels + barsWidth*math.Log(used/leastUsed)/math.Log(mostUsed/leastUsed)
}

func plot(rows []*row) string {
	var s strings.Builder
	height := top + rowHeight*len(rows) + 30
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<title>minimail: what share of each target is used</title>
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="20" y="28" font-size="18" font-weight="bold">minimail against its targets</text>
<text x="20" y="48" fill="#555">The bar is how much of the target is used; a bar that ends left of the line meets it. Logarithmic scale.</text>
`, plotWidth, height)
	bottom := top + rowHeight*len(rows)
	for _, tick := range []float64{0.01, 0.1, 1, 10} {
		x := across(tick)
		colour, width := "#dddddd", 1
		if tick == 1 {
			colour, width = "#222222", 2
		}
		fmt.Fprintf(&s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="%s" stroke-width="%d"/>`+"\n", x, top-8, x, bottom, colour, width)
		name := fmt.Sprintf("%g×", tick)
		if tick == 1 {
			name = "target"
		}
		fmt.Fprintf(&s, `<text x="%.0f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n", x, top-14, name)
	}
	for i, r := range rows {
		y := top + rowHeight*i
		colour := "#2e8b57"
		if !r.met() {
			colour = "#c0392b"
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labels-8, y+17, html.EscapeString(r.what))
		if r.comparable() {
			fmt.Fprintf(&s, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="%s"/>`+"\n", labels, y+4, max(across(r.used())-labels, 3), rowHeight-8, colour)
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", labels+barsWidth+10, y+17, colour, html.EscapeString(r.short()))
	}
	fmt.Fprintf(&s, `<text x="20" y="%d" fill="#555">Green: met. Red: not met. All on one machine, over the loopback; medians.</text>`+"\n</svg>\n", bottom+20)
	return s.String()
}

// short is a row's result in some words.
func (r *row) short() string {
	v := r.in.format(r.ours.got.median())
	if best := r.best(); best != nil && !r.isAbsolute {
		return fmt.Sprintf("%s: %s of %s", v, digits(r.ratio()), best.name)
	}
	return v + ", " + r.bound()
}
