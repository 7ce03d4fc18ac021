package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// columns is the widest that a line may be.
const columns = 80

// span is text of one style, a class of the picture's.
type span struct{ class, text string }

// line is what a terminal shows in one, and when its first character came.
type line struct {
	at    time.Duration
	spans []span
}

func (l line) text() (all string) {
	for _, s := range l.spans {
		all += s.text
	}
	return all
}

// classes of the parameters of SGR, select graphic rendition (ECMA-48, 8.3.117).
var classes = map[string]string{"": "", "0": "", "1": "bold", "2": "dim", "31": "bad", "32": "good"}

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// interpret makes lines of what came, as a terminal does with those few
// sequences that scripts/demo prints. Any other is an error.
func interpret(chunks []chunk) (lines []line, err error) {
	var all strings.Builder
	for _, c := range chunks {
		all.WriteString(c.data)
	}
	class, offset := "", 0
	for raw := range strings.Lines(all.String()) {
		l := line{at: timeOf(chunks, offset)}
		offset += len(raw)
		raw = strings.TrimRight(raw, "\r\n")
		if l.spans, class, err = spans(raw, class); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		if n := utf8.RuneCountInString(l.text()); n > columns {
			return nil, fmt.Errorf("line %d has %d columns, more than %d: %q", len(lines)+1, n, columns, l.text())
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// timeOf says when the byte at offset came.
func timeOf(chunks []chunk, offset int) time.Duration {
	for _, c := range chunks {
		if offset < len(c.data) {
			return c.at
		}
		offset -= len(c.data)
	}
	panic("there is no such byte")
}

// spans splits a line that begins in a class, and says in which it ends.
func spans(raw, class string) (all []span, last string, err error) {
	add := func(text string) {
		if text != "" {
			all = append(all, span{class, text})
		}
	}
	end := 0
	for _, m := range sgr.FindAllStringSubmatchIndex(raw, -1) {
		add(raw[end:m[0]])
		end = m[1]
		next, known := classes[raw[m[2]:m[3]]]
		if !known {
			return nil, "", fmt.Errorf("no style is known for %q", raw[m[0]:m[1]])
		}
		class = next
	}
	add(raw[end:])
	for _, s := range all {
		if i := strings.IndexFunc(s.text, unicode.IsControl); i >= 0 || !utf8.ValidString(s.text) {
			return nil, "", fmt.Errorf("a terminal would not show this as it is: %q", s.text)
		}
	}
	return all, class, nil
}
