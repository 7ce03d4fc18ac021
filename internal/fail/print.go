package fail

import (
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Quote is words as one types them in sh.
func Quote(words ...string) string {
	var all []string
	for _, w := range words {
		if w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-") != "" {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		all = append(all, w)
	}
	return strings.Join(all, " ")
}

// maxPrintable bounds a line that comes from outside, in bytes.
const maxPrintable = 4096

// Printable is foreign words (a greeting, ssh's line) in one line that does
// nothing to a terminal and shows what it is: control characters, those of C1
// and those that turn the direction of writing become "?".
func Printable(s string) string {
	if len(s) > maxPrintable {
		s = s[:maxPrintable] + "..."
	}
	return strings.Map(func(c rune) rune {
		if c != ' ' && !unicode.IsGraphic(c) || unicode.Is(unicode.Bidi_Control, c) || unicode.Is(unicode.Zl, c) || unicode.Is(unicode.Zp, c) {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// Colour reports whether w is a terminal that can show colours.
func Colour(w *os.File) bool {
	return os.Getenv("TERM") != "dumb" && term.IsTerminal(int(w.Fd()))
}
