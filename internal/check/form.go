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
	colourSigns = [3]string{"\x1b[32m✓\x1b[0m", "\x1b[33m!\x1b[0m", "\x1b[31m✗\x1b[0m"} // ECMA-48
)

func newForm(s settings.Settings, w *os.File) form {
	signs := plainSigns
	if fail.Colour(w) {
		if signs = colourSigns; os.Getenv("NO_COLOR") != "" { // no-color.org
			signs = prettySigns
		}
	}
	return form{w: w, json: s.JSON, nagios: s.Nagios, signs: signs}
}

// point prints one as soon as it is known: a login may take a while.
func (r form) point(p point) {
	if r.json || r.nagios {
		return
	}
	fmt.Fprintf(r.w, "%s %-9s %s\n", r.signs[p.Verdict], p.Name, fail.Printable(p.Text))
	for _, m := range p.Fixes {
		fmt.Fprintf(r.w, "       fix: %s\n", fail.Printable(m))
	}
}

// MarshalText is for JSON.
func (v verdict) MarshalText() ([]byte, error) {
	return []byte([3]string{"ok", "warning", "failure"}[v]), nil
}

// end prints what is said when all is known, and returns the exit status.
func (r form) end(c *checkup) error {
	code, err := int(c.worst), error(nil)
	switch {
	case r.nagios:
		if r.unknown {
			code = fail.NagiosUnknown
		}
		_, err = fmt.Fprintln(r.w, nagiosLine(c, code))
	case r.json:
		err = fail.JSON(r.w, struct {
			Status  verdict `json:"status"`
			Exit    int     `json:"exit"`
			Host    string  `json:"host"`
			User    string  `json:"user"`
			Seconds float64 `json:"seconds,omitempty"` // from launch to greeting
			Points  []point `json:"points"`
		}{verdict(code), code, c.Host, daemon.UserName(), float64(c.login.took.Round(time.Millisecond).Milliseconds()) / 1000, c.points}, "  ")
	default:
		_, err = fmt.Fprintln(r.w, r.summary(c.points))
	}
	if err != nil {
		return fail.Exit(err, int(broken))
	}
	return fail.Silent(code)
}

func (r form) summary(points []point) string {
	var n [3]int
	for _, p := range points {
		n[p.Verdict]++
	}
	switch {
	case r.unknown:
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
	var said []string
	for _, p := range c.points {
		if p.Verdict == c.worst && (c.worst != well || p.Name == "login" || p.Name == "far end") {
			said = append(said, p.Name+": "+p.Text)
		}
	}
	line := fail.Printable("MINIMAIL " + [4]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code] + " - " + strings.ReplaceAll(strings.Join(said, "; "), "|", "/"))
	if t := c.login.took; t > 0 {
		line += fmt.Sprintf("| time=%.3fs", t.Seconds())
	}
	return line
}
