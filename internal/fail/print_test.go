package fail

import (
	"bytes"
	"encoding/json"
	"io"
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
	full := strings.Repeat("x", maxPrintable)
	if got := Printable(full); got != full {
		t.Errorf("%d of %d bytes", len(got), maxPrintable)
	}
	if got := Printable(full + "x"); got != full+"..." {
		t.Errorf("%d of %d bytes", len(got), maxPrintable+1)
	}
}

func TestCleanValuesAreEncodedAsEverybodyEncodesThem(t *testing.T) {
	v := map[string]string{"k": "a\"b\\c/\n<é>"}
	for indent, want := range map[string]string{
		"":   `{"k":"a\"b\\c/?<é>"}` + "\n",
		"  ": "{\n  \"k\": \"a\\\"b\\\\c/?<é>\"\n}\n",
	} {
		var got bytes.Buffer
		if err := JSON(&got, v, indent); err != nil || got.String() != want {
			t.Errorf("%q, %v, want %q", got.String(), err, want)
		}
	}
}

func TestTextThatIsEncodedAlreadyIsCleaned(t *testing.T) {
	for text, want := range map[string]string{
		`"\u00e9\u0041\"\\\/"`: `"\u00e9\u0041\"\\\/"`,
		`"\u001b\u202e\u2028"`: `"???"`,
		`"\n\t\b"`:             `"???"`,
		`\u04a`:                `\u04a`,
		`\u00`:                 `?`,
		`\u00g1"`:              `?"`,
		`\`:                    `\`,
		`\t`:                   `?`,
		`\"` + "\x1b":          `\"?`,
		`\u96fb`:               `\u96fb`,
		"\x1b\n\xff":           "?\n?",
	} {
		if got := string(PrintableJSON([]byte(text))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestWhatCannotBeEncodedOrWrittenIsAnError(t *testing.T) {
	var out bytes.Buffer
	if err := JSON(&out, func() {}, ""); err == nil || out.Len() > 0 {
		t.Errorf("a function became %q", out.String())
	}
	if n, err := (JSONCleaner{&out}).Write([]byte("a\x1bb\xff\n")); n != 5 || err != nil || out.String() != "a?b?\n" {
		t.Errorf("%d bytes, %v: %q", n, err, out.String())
	}
	r, w := io.Pipe()
	r.CloseWithError(errPlain)
	if n, err := (JSONCleaner{w}).Write([]byte("a\n")); n != 0 || err != errPlain {
		t.Errorf("%d bytes of what nobody reads, %v", n, err)
	}
}

func TestWordsAreQuotedAsShReadsThem(t *testing.T) {
	if got, want := Quote("a-z0=@%+:,./_", "", "a b", "it's", "$x"), `a-z0=@%+:,./_ '' 'a b' 'it'\''s' '$x'`; got != want {
		t.Errorf("%s, want %s", got, want)
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
