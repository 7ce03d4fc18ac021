package fail

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
		if !isShown(c) {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// isShown reports whether a terminal shows c, and does nothing else.
func isShown(c rune) bool {
	return unicode.IsGraphic(c) && !unicode.Is(unicode.Bidi_Control, c) && !unicode.Is(unicode.Zl, c) && !unicode.Is(unicode.Zp, c)
}

// PrintableJSON is Printable for text that is encoded already (RFC 8259): what
// its strings are for a program that reads them is clean, too. Nothing is cut.
func PrintableJSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		size, clean := jsonCharacter(text)
		if clean {
			out = append(out, text[:size]...)
		} else {
			out = append(out, '?')
		}
		text = text[size:]
	}
	return out
}

// jsonCharacter is how many bytes the first character of text takes, and
// whether it may stay.
func jsonCharacter(text []byte) (size int, clean bool) {
	if text[0] != '\\' || len(text) == 1 {
		c, size := utf8.DecodeRune(text)
		return size, (c != utf8.RuneError || size > 1) && (isShown(c) || c == '\n')
	}
	switch text[1] {
	case '"', '\\', '/':
		return 2, true
	case 'u':
		size = min(len(text), 6)
		c, err := strconv.ParseUint(string(text[2:size]), 16, 16)
		return size, err == nil && isShown(rune(c))
	}
	return 2, false // a newline, say
}

// JSON writes v encoded and clean; an indent puts each of its values on a line.
func JSON(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(PrintableJSON(text.Bytes()))
	return err
}

// A JSONCleaner passes encoded lines on, one in each Write, and cleans them.
type JSONCleaner struct{ To io.Writer }

func (j JSONCleaner) Write(line []byte) (int, error) {
	if _, err := j.To.Write(PrintableJSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// Colour reports whether w is a terminal that can show colours.
func Colour(w *os.File) bool {
	return os.Getenv("TERM") != "dumb" && term.IsTerminal(int(w.Fd()))
}
