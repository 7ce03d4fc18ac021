package main

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

const (
	hold  = 6 * time.Second       // how long the last picture stays
	frame = 20 * time.Millisecond // what comes within this time comes at once
)

// In pixels. The widest of the fonts has characters of 0.602 em.
const (
	fontSize   = 14
	charWidth  = 8.43
	lineHeight = 20
	margin     = 20
	width      = 716 // of all columns and two margins
)

// style: only what may animate hides anything; all else shows all lines.
const style = `text{font:%dpx ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;white-space:pre}
text,rect.cursor{fill:#c9d1d9}
.dim{fill:#8b949e}.bold{font-weight:bold;fill:#fff}.good{fill:#56d364}.bad{fill:#ff7b72}
@media (prefers-reduced-motion:no-preference){
.at{animation:%.2fs step-end infinite}
%s}
`

const title = "A recording of " + command

const desc = `A mail client connects to minimail on port 25. An ssh comes up, the client is greeted, ` +
	`and its mail arrives at the other end. When the client is gone, a countdown of a few seconds begins, ` +
	`and at its end the ssh is gone, too.`

// picture is drawn from the top to the bottom.
type picture struct {
	body, rules strings.Builder
	row         int           // the next one
	total       time.Duration // after which it begins again
}

// draw makes the picture of lines, the last of which was complete at end.
func draw(lines []line, end time.Duration) string {
	p := &picture{total: end + hold}
	p.text([]span{{"good", prompt}, {"bold", command}})
	all := groups(append(lines, line{end, []span{{"good", prompt}}}))
	p.cursor("s", 0, all[0][0].at)
	for i, group := range all {
		fmt.Fprintf(&p.body, "<g class=\"at\" id=\"g%d\">\n", i)
		p.rule(fmt.Sprintf("g%d", i), "0%%{visibility:hidden}%s{visibility:visible}", group[0].at)
		for _, l := range group {
			p.text(l.spans)
		}
		if i+1 < len(all) {
			p.body.WriteString("</g>\n")
			p.cursor(fmt.Sprintf("c%d", i), group[0].at, all[i+1][0].at)
		}
	}
	p.row-- // the cursor stays behind the last prompt
	p.block(len(prompt), `class="cursor"`)
	p.body.WriteString("</g>\n")
	return p.svg()
}

// text puts a line below the others.
func (p *picture) text(spans []span) {
	fmt.Fprintf(&p.body, "<text x=\"%d\" y=\"%d\">", margin, margin+p.row*lineHeight+fontSize)
	for _, s := range spans {
		if s.class == "" {
			p.body.WriteString(escaped(s.text))
		} else {
			fmt.Fprintf(&p.body, "<tspan class=%q>%s</tspan>", s.class, escaped(s.text))
		}
	}
	p.body.WriteString("</text>\n")
	p.row++
}

// cursor is seen below the last line for some time.
func (p *picture) cursor(id string, from, to time.Duration) {
	p.rule(id, "0%%{visibility:hidden}%s{visibility:visible}%s{visibility:hidden}", from, to)
	p.block(0, fmt.Sprintf("class=\"at cursor\" id=%q visibility=\"hidden\"", id))
}

func (p *picture) block(column int, attributes string) {
	fmt.Fprintf(&p.body, "<rect %s x=\"%g\" y=\"%d\" width=\"8\" height=\"16\"/>\n",
		attributes, margin+float64(column)*charWidth, margin+p.row*lineHeight+2)
}

// rule animates what has the id.
func (p *picture) rule(id, keyframes string, times ...time.Duration) {
	var percents []any
	for _, t := range times {
		percents = append(percents, fmt.Sprintf("%.2f%%", 100*t.Seconds()/p.total.Seconds()))
	}
	fmt.Fprintf(&p.rules, "#%s{animation-name:%s}@keyframes %s{%s}\n", id, id, id, fmt.Sprintf(keyframes, percents...))
}

func (p *picture) svg() string {
	height := (p.row+1)*lineHeight + 2*margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" aria-labelledby="title desc" xml:space="preserve">
`, width, height) +
		fmt.Sprintf("<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n", escaped(title), escaped(desc)) +
		fmt.Sprintf("<style>\n"+style+"</style>\n", fontSize, p.total.Seconds(), p.rules.String()) +
		fmt.Sprintf(`<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#161b22" stroke="#444c56"/>
`, width-1, height-1) +
		p.body.String() + "</svg>\n"
}

// groups are the lines that come at once, in their order.
func groups(lines []line) (all [][]line) {
	for _, l := range lines {
		if n := len(all); n > 0 && l.at-all[n-1][0].at < frame {
			all[n-1] = append(all[n-1], l)
		} else {
			all = append(all, []line{l})
		}
	}
	return all
}

func escaped(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a Builder never fails
	}
	return b.String()
}
