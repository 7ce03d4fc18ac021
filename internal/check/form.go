package check

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

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

func newForm(s settings.Settings, w *os.File) form {
	r := form{w: w, json: s.JSON, nagios: s.Nagios, signs: plainSigns}
	if fail.Colour(w) {
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
	fmt.Fprintf(r.w, "%s %-9s %s\n", r.signs[p.verdict], p.name, fail.Printable(p.text))
	for _, m := range p.fixes {
		fmt.Fprintf(r.w, "       fix: %s\n", fail.Printable(m))
	}
}

// end prints what is said when all is known.
func (r form) end(c *checkup) error {
	code := int(c.worst())
	switch {
	case r.nagios:
		if r.unknown {
			code = fail.NagiosUnknown
		}
		fmt.Fprintln(r.w, nagiosLine(c, code))
	case r.json:
		if err := r.asJSON(c); err != nil {
			return fail.Exit(err, int(broken))
		}
	default:
		fmt.Fprintln(r.w, summary(c.points))
	}
	if code == 0 {
		return nil
	}
	return fail.Silent(code)
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
	line := fail.Printable("MINIMAIL " + state + " - " + strings.ReplaceAll(strings.Join(said, "; "), "|", "/"))
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
		Fix    []string `json:"fix,omitempty"`
	}
	words := [3]string{"ok", "warning", "failure"}
	all := []entry{}
	for _, p := range c.points {
		all = append(all, entry{p.name, words[p.verdict], p.text, p.fixes})
	}
	return fail.JSON(r.w, struct {
		Status  string  `json:"status"`
		Exit    int     `json:"exit"`
		Host    string  `json:"host"`
		User    string  `json:"user"`
		Seconds float64 `json:"seconds,omitempty"` // from launch to greeting
		Points  []entry `json:"points"`
	}{words[c.worst()], int(c.worst()), c.Host, daemon.UserName(), c.login.took.Round(time.Millisecond).Seconds(), all}, "  ")
}
