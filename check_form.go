package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// exitUnknownState is a plugin's fourth state, UNKNOWN (Nagios plugin
// guidelines); the others are verdicts.
const exitUnknownState = 3

// A form is how check answers.
type form struct {
	w            io.Writer
	json, nagios bool
	signs        [3]string
	unknown      bool // what was asked for could not be looked at
}

var (
	plainSigns  = [3]string{"OK  ", "WARN", "FAIL"}
	prettySigns = [3]string{"✓", "!", "✗"}
	// green, yellow, red (ECMA-48)
	colourSigns = [3]string{"\x1b[32m✓\x1b[0m", "\x1b[33m!\x1b[0m", "\x1b[31m✗\x1b[0m"}
)

func newForm(s settings, w *os.File) form {
	r := form{w: w, json: s.asJSON, nagios: s.nagios, signs: plainSigns}
	if colour(w) {
		r.signs = signsFor(os.Getenv("NO_COLOR"))
	}
	return r
}

// signsFor is for a terminal (no-color.org).
func signsFor(noColor string) [3]string {
	if noColor != "" {
		return prettySigns
	}
	return colourSigns
}

// point prints one as soon as it is known: a login may take a while.
func (r form) point(p point) {
	if r.json || r.nagios {
		return
	}
	fmt.Fprintf(r.w, "%s %-9s %s\n", r.signs[p.verdict], p.name, printed(p.text))
	for _, m := range p.mend {
		fmt.Fprintf(r.w, "       mend: %s\n", printed(m))
	}
}

// printed keeps what comes from outside (a greeting, ssh's words) to one line
// that does nothing to a terminal.
func printed(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || 0x80 <= c && c < 0xa0 {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// end prints what is said when all is known.
func (r form) end(c *checkup) error {
	code := int(c.worst())
	switch {
	case r.nagios:
		if r.unknown {
			code = exitUnknownState
		}
		fmt.Fprintln(r.w, nagiosLine(c, code))
	case r.json:
		if err := r.asJSON(c); err != nil {
			return cli.Exit(err, int(broken))
		}
	default:
		fmt.Fprintln(r.w, summary(c.points))
	}
	if code == 0 {
		return nil
	}
	return cli.Exit("", code)
}

func summary(points []point) string {
	var n [3]int
	for _, p := range points {
		n[p.verdict]++
	}
	switch {
	case len(points) > 0 && points[len(points)-1].name == unfinished:
		return "not all has been looked at"
	case n[broken] > 0:
		return fmt.Sprintf("something will not work: %d of %d points fail, %d warn", n[broken], len(points), n[doubtful])
	case n[doubtful] > 0:
		return fmt.Sprintf("it works, with warnings: %d of %d points", n[doubtful], len(points))
	}
	return "all is well"
}

// nagiosLine is a plugin's answer: the state, the worst points, and after the
// bar how long a mail client would have waited for its greeting.
func nagiosLine(c *checkup, code int) string {
	state := [4]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code]
	var said []string
	for _, p := range c.points {
		if v := c.worst(); p.verdict == v && (v != well || p.name == "login" || p.name == "far end") {
			said = append(said, p.name+": "+p.text)
		}
	}
	line := printed("MINIMAIL " + state + " - " + strings.ReplaceAll(strings.Join(said, "; "), "|", "/"))
	if t := c.login.took; t > 0 {
		line += fmt.Sprintf("| time=%.3fs", t.Seconds())
	}
	return line
}

// asJSON prints one object.
func (r form) asJSON(c *checkup) error {
	type entry struct {
		Point  string   `json:"point"`
		Status string   `json:"status"`
		Text   string   `json:"text"`
		Mend   []string `json:"mend,omitempty"`
	}
	words := [3]string{"ok", "warning", "failure"}
	all := []entry{}
	for _, p := range c.points {
		all = append(all, entry{p.name, words[p.verdict], p.text, p.mend})
	}
	e := json.NewEncoder(r.w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Status  string  `json:"status"`
		Exit    int     `json:"exit"`
		Host    string  `json:"host"`
		User    string  `json:"user"`
		Seconds float64 `json:"seconds,omitempty"` // from launch to greeting
		Points  []entry `json:"points"`
	}{words[c.worst()], int(c.worst()), c.host, userName(), c.login.took.Round(time.Millisecond).Seconds(), all})
}

// notDefaults is the settings file, and all options that somebody has set, with
// where.
func (inv *invocation) notDefaults() (file string, changed []string) {
	fs := flag.NewFlagSet("minimail", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, f := range flags() {
		_ = f.Apply(fs) // parse has seen to errors
	}
	_ = fs.Parse(inv.options)
	file = fs.Lookup("settings").Value.String()
	for _, f := range flags() {
		doc, name := f.(cli.DocGenerationFlag), f.Names()[0]
		if name == "json" || name == "nagios" || name == "settings" {
			continue
		}
		value := fs.Lookup(name).Value.String()
		if _, list := f.(*cli.StringSliceFlag); list {
			value = value[1 : len(value)-1] // without package cli's brackets
		}
		for _, alias := range f.Names()[1:] { // package flag sets one name only
			if fs.Lookup(name).Value.String() == fs.Lookup(name).DefValue {
				value = fs.Lookup(alias).Value.String()
			}
		}
		switch where := inv.where(f); {
		case inv.given[name] && !doc.TakesValue():
			changed = append(changed, where)
		case inv.given[name] || where != dashed(name):
			changed = append(changed, strings.Replace(where, dashed(name), dashed(name)+" "+value, 1))
		}
	}
	return file, changed
}
