package docs_test

import (
	"bytes"
	"go/ast"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// unlisted are messages of the source that the index does without, and why.
var unlisted = map[string]string{
	"%s is not a TCP connection":                "only said of TCP connections",
	"%s and %s are of two families":             "a connection's ends are of one",
	"another user":                              "it is a WHO",
	"somebody of whom the kernel does not tell": "it is a WHO",
	"the near end is not trusted":               "Dial says who is there instead",
	"jumphost loop via %v":                      "ssh's own words, which are in the part about ssh",
}

// otherSSH are words of other versions of OpenSSH than the one here may be:
// 9.8; the others before 8.7
var otherSSH = []string{"Not allowed at this time", "Authenticated with partial success.", "(via proxy).", "command-line line"}

// TestTheIndexHasEveryMessageAndNoOther is about docs/messages.md. Its entries
// are the code in the first column of its tables; what a message puts in is
// written in capitals there. A message that has changed fails twice: as it is
// now it is missing, and as it was nobody says it.
func TestTheIndexHasEveryMessageAndNoOther(t *testing.T) {
	all := messages(t)
	page := testbed.Read(t, "docs/messages.md")
	ours, sshs, ok := strings.Cut(page, "\n## What ssh says\n")
	if !ok {
		t.Fatal("the page has no part about ssh")
	}
	entries := entriesOf(ours)
	for _, text := range slices.Sorted(maps.Keys(all)) {
		if !slices.ContainsFunc(entries, pattern(text).MatchString) && unlisted[text] == "" {
			t.Errorf("%s: not in the index: %q", all[text], text)
		}
	}
	for text := range unlisted {
		if _, ok := all[text]; !ok {
			t.Errorf("nobody says any more what is not listed: %q", text)
		}
	}
	for _, e := range entries {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(all)), func(text string) bool { return pattern(text).MatchString(e) }) {
			t.Errorf("nobody says %q", e)
		}
	}
	// What minimail looks for in ssh's words is explained, and what is explained
	// is what the ssh here can say.
	for text, at := range sshWordsInSource(t) {
		if !explained(text, entriesOf(sshs)) {
			t.Errorf("%s: not in the part about ssh: %q", at, text)
		}
	}
	says := whatSSHCanSay(t)
	for _, e := range entriesOf(sshs) {
		for _, words := range strings.Split(placeholder.ReplaceAllString(e, ": "), ": ") {
			if words = strings.TrimSpace(words); !says(words) && !slices.Contains(otherSSH, words) {
				t.Errorf("ssh does not say %q of %q", words, e)
			}
		}
	}
}

// placeholder is what stands in the index, and in openssh's table, for what ssh
// puts in.
var placeholder = regexp.MustCompile(`\b(UNKNOWN port 65535|PROGRAM|FUNCTION|USER|HOST|PORT:N|ADDRESS|PORT|END|METHODS|METHOD|KEY|FILE|OPTION|REASON|TEXT|N)\b`)

// explained reports whether an entry has a form, or the part of it that tells.
func explained(form string, entries []string) bool {
	return slices.ContainsFunc(entries, func(e string) bool {
		return strings.Contains(e, form) || strings.Contains(form, strings.TrimSpace(e))
	})
}

// entriesOf are the code in the first column of all tables.
func entriesOf(page string) []string {
	var all []string
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(page, -1) {
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			all = append(all, code[1])
		}
	}
	return all
}

// verb is one of package fmt's, in a format.
var verb = regexp.MustCompile(`%[-+# 0]*[0-9.]*[a-zA-Z]`)

// pattern matches a message as the index has it.
func pattern(text string) *regexp.Regexp {
	var re []string
	for _, part := range verb.Split(strings.TrimSpace(text), -1) {
		re = append(re, regexp.QuoteMeta(part))
	}
	return regexp.MustCompile("^" + strings.Join(re, `(?:[^a-z]|, line )*`) + "$")
}

// sshWordsInSource are those of ssh's that minimail acts upon.
func sshWordsInSource(t *testing.T) map[string]string {
	c := &collector{token.NewFileSet(), map[string]string{}, map[string]string{}}
	c.inspect(t, c.constant)
	c.inspect(t, func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if path.Base(file) == "explain.go" && funcName(n) == "says" || funcName(n) == "c.login.heard" {
				for _, a := range n.Args {
					c.add("", a)
				}
			}
		case *ast.CompositeLit: // a form of openssh's table
			if path.Base(file) != "words.go" || len(n.Elts) != 3 {
				return
			}
			if means, ok := n.Elts[1].(*ast.Ident); ok && means.Name != "Chatter" {
				c.add("", n.Elts[2])
			}
		}
	})
	if len(c.found) < 10 {
		t.Errorf("only %q are looked for", slices.Collect(maps.Keys(c.found)))
	}
	return c.found
}

// whatSSHCanSay looks into ssh, sshd's words to ssh, and what the C library
// makes of errors.
func whatSSHCanSay(t *testing.T) func(words string) bool {
	t.Helper()
	var programs []byte
	for _, name := range []string{"ssh", "sshd"} {
		path, err := exec.LookPath(name)
		if err != nil {
			if path = "/usr/sbin/" + name; !testbed.Exists(path) {
				t.Fatal(err)
			}
		}
		programs = append(programs, testbed.Read(t, path)...)
		for _, lib := range regexp.MustCompile(`/\S+/libc\.\S+`).FindAllString(testbed.Run(t, "ldd", path), -1) {
			b, err := os.ReadFile(lib)
			if err != nil {
				t.Fatal(err)
			}
			programs = append(programs, b...)
		}
	}
	return func(words string) bool { return bytes.Contains(programs, []byte(words)) }
}
