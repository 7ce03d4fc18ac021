package fail

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestForeignWordsAreOneLineThatDoesNothing(t *testing.T) {
	for s, want := range map[string]string{
		"220 far.test ESMTP":           "220 far.test ESMTP",
		"Grüße, 電子郵便":                  "Grüße, 電子郵便",
		"\x1b[31mred\r\n\x00":          "?[31mred???",
		"\u009b31m \u202eevil\u2066":   "?31m ?evil?",
		"\u200b\u2028\u2029\ufeff":     "????",
		"half a character: \xe9, \xff": "half a character: ?, ?",
	} {
		if got := Printable(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	if got := Printable(strings.Repeat("x", 1<<20)); len(got) > maxPrintable+3 {
		t.Errorf("%d bytes", len(got))
	}
}

// FuzzPrintableJSON: what is encoded stays so, and its strings are clean.
func FuzzPrintableJSON(f *testing.F) {
	for _, s := range []string{"a\"b\\c/\n", "\x1b[31m", "\u202e\u009b", "\\u001b", "\xff", "\ufeff\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var text bytes.Buffer
		if err := JSON(&text, map[string]string{"k": s}, "  "); err != nil {
			t.Fatal(err)
		}
		var back map[string]string
		if err := json.Unmarshal(text.Bytes(), &back); err != nil {
			t.Fatalf("%q: %v", text.Bytes(), err)
		}
		for _, c := range back["k"] {
			if !unicode.IsGraphic(c) || unicode.Is(unicode.Bidi_Control, c) {
				t.Fatalf("%q is not clean", back["k"])
			}
		}
		if utf8.ValidString(s) && utf8.RuneCountInString(back["k"]) != utf8.RuneCountInString(s) {
			t.Errorf("%q became %q", s, back["k"])
		}
		PrintableJSON([]byte(s)) // anything else must not harm, either
	})
}
