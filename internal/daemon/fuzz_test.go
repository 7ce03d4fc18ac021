package daemon

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"minimail/internal/fail"
)

// FuzzReport is about what a control socket may answer: it is an error, or can be
// printed, in both forms, and does nothing to a terminal.
func FuzzReport(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `{"tunnel":{"last_error":"x"}}`, `{"since":"2026-01-01T00:00:00Z","tunnel":{"state":"up","until":"2026-01-01T00:00:00Z"}}`,
		`{"host":"\u001b[31m\u202e","listening":["\u009b"],"given":{"options":["\u0007"]}}`, `[`, "\x1b[31m", `{"pid":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		r, err := readReport(bytes.NewReader(answer))
		if err != nil {
			isPrintable(t, fail.Printable(err.Error()))
			return
		}
		var text, object bytes.Buffer
		r.print(&text)
		isPrintable(t, text.String())
		if err := fail.JSON(&object, r, ""); err != nil {
			return // a time that JSON cannot have, say
		}
		var back any
		if err := json.Unmarshal(object.Bytes(), &back); err != nil {
			t.Fatalf("%q: %v", object.Bytes(), err)
		}
		each(back, func(s string) { isPrintable(t, s) })
	})
}

func isPrintable(t *testing.T, s string) {
	t.Helper()
	for _, c := range s {
		if c != '\n' && !unicode.IsGraphic(c) || unicode.Is(unicode.Bidi_Control, c) {
			t.Fatalf("%q is not clean", s)
		}
	}
}

// each calls f with all strings in v.
func each(v any, f func(string)) {
	switch v := v.(type) {
	case string:
		f(v)
	case []any:
		for _, w := range v {
			each(w, f)
		}
	case map[string]any:
		for k, w := range v {
			f(k)
			each(w, f)
		}
	}
}

// FuzzPidFile is about what may be in a pid file: a pid that can be signalled, or
// none.
func FuzzPidFile(f *testing.F) {
	for _, s := range []string{"", "1", "4194303\n", "-1", "99999999999999999999", "12 34", " 7", "17\n9\n", strings.Repeat("1", 70)} {
		f.Add(s)
	}
	path := filepath.Join(f.TempDir(), "pid")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		pid, owner, err := readPid(path)
		line, _, _ := strings.Cut(text, "\n")
		if err != nil || owner != os.Getuid() || pid == 1 || pid < 0 || pid != 0 && !strings.Contains(line, strconv.Itoa(pid)) {
			t.Errorf("%q: pid %d, owner %d, %v", text, pid, owner, err)
		}
	})
}
