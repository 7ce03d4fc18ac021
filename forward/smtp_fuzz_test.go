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

// Where a reply ends must not depend on how the network has cut it.
func FuzzRepliesInPieces(f *testing.F) {
	f.Add([]byte("220 hello\r\n250-a\r\n250 b\r\n221 bye\r\n"), 3)
	f.Add([]byte("250\r\n"), 1)
	f.Add([]byte("\x17\x03\x03\n421 no\r\n"), 2)
	f.Fuzz(func(t *testing.T, said []byte, size int) {
		var whole, pieces replies
		whole.hear(said)
		size = max(size, 1)
		for rest := said; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			pieces.hear(rest[:min(size, len(rest))])
		}
		if whole != pieces {
			t.Fatalf("%q at once: %+v; in pieces of %d: %+v", said, whole, size, pieces)
		}
		if whole.bye && !whole.between {
			t.Fatalf("%q: good-bye in the middle of a reply: %+v", said, whole)
		}
	})
}
