package forward

import (
	"errors"
	"strings"
	"testing"
)

// Whatever ssh or the far side says, a client gets one printable line that no
// mail program takes for a permanent failure.
func FuzzReply421IsOneLine(f *testing.F) {
	f.Add("Permission denied (publickey)")
	f.Add("a\r\n250 ok\r\n")
	f.Add("\x1b]0;title\x07\x00\x7f\u0085\u2028é")
	f.Add(strings.Repeat("é", 600))
	f.Fuzz(func(t *testing.T, why string) {
		got := reply421(errors.New(why))
		line, end := strings.CutSuffix(got, "\r\n")
		if !end || len(got) > 512 || !strings.HasPrefix(line, "421 ") {
			t.Fatalf("%q", got)
		}
		for _, c := range []byte(line) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q has %q", got, c)
			}
		}
	})
}
