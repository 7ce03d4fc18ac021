package docs_test

import (
	"regexp"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// A page of the guide is Markdown. What is run of it are its indented blocks:
//
//   - a block with lines that begin with "$ " is a session: what somebody types
//     at a terminal, and below it what is then seen. "> " continues a command. A
//     line "..." stands for any lines, "..." within a line for any text. What
//     differs from run to run (times, pids, keys) may differ.
//   - a block below <!-- file: NAME --> is what that file of the person's then has in it;
//   - <!-- given: STATE --> above a session brings a state about (guide.given),
//     which ends with the session.
//
// Any other block is for reading only.
type block struct {
	page  string
	line  int    // of the page, where it begins
	part  string // the heading that it stands under
	file  string
	given string
	lines []string
}

// A step is a command of a session, and what is seen after it.
type step struct{ command, seen string }

var pageNote = regexp.MustCompile(`^<!-- (file|given): (.*) -->$`)

func pageBlocks(t *testing.T, page string) []*block {
	t.Helper()
	var all []*block
	next := &block{page: page}
	part, inBlock := "", false
	for i, l := range strings.Split(testbed.Read(t, page), "\n") {
		text, indented := strings.CutPrefix(l, "    ")
		switch {
		case indented && !inBlock:
			next.line, next.part, inBlock = i+1, part, true
			all = append(all, next)
			fallthrough
		case indented, inBlock && l == "":
			all[len(all)-1].lines = append(all[len(all)-1].lines, text)
			continue
		case inBlock:
			next, inBlock = &block{page: page}, false
		}
		if note := pageNote.FindStringSubmatch(l); note != nil && note[1] == "file" {
			next.file = note[2]
		} else if note != nil {
			next.given = note[2]
		} else if strings.HasPrefix(l, "## ") {
			part = l[3:]
		}
	}
	return all
}

// steps are the commands of a session; none: the block is for reading.
func (b *block) steps() []step {
	var all []step
	for _, l := range b.lines {
		if command, ok := strings.CutPrefix(l, "$ "); ok {
			all = append(all, step{command: command})
			continue
		}
		if len(all) == 0 {
			continue
		}
		s := &all[len(all)-1]
		if more, ok := strings.CutPrefix(l, "> "); ok && s.seen == "" {
			s.command += "\n" + more
		} else {
			s.seen += l + "\n"
		}
	}
	return all
}

// sameEachTime has what differs from run to run replaced, in a page and in what
// is really seen.
var sameEachTime = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`), ""}, // colours
	{regexp.MustCompile(`\r`), ""},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
	{regexp.MustCompile(`far\.test`), "host.example.com"}, // the test's mail server
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "SHA256:KEY"},
	{regexp.MustCompile(`AAAA[A-Za-z0-9+/=]+`), "AAAA"},
	{regexp.MustCompile(`\b(pid|uid) \d+`), "$1 N"},
	{regexp.MustCompile(`\bpid=\d+`), "pid=N"},
	{regexp.MustCompile(`OpenSSH[_ ][\w.]+( [\w.+-]+)?`), "OpenSSH"},
	{regexp.MustCompile(`\b\d\d\d\d-\d\d-\d\d[ T]`), ""},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?`), "TIME"},
	{regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)? ?(ms|µs|s)\b`), "SOME s"},
	{regexp.MustCompile(`, line \d+`), ", line N"},
}

func evened(s string) string {
	s = strings.TrimRight(s, " \r\n") + "\n"
	for _, e := range sameEachTime {
		s = e.what.ReplaceAllString(s, e.by)
	}
	return strings.TrimLeft(s, "\n")
}

// shows reports whether what a page shows is what is really seen.
func (s step) shows(got string) bool {
	var re strings.Builder
	re.WriteString(`^`)
	for _, l := range strings.SplitAfter(evened(s.seen), "\n") {
		if l == "...\n" {
			re.WriteString(`(?:.*\n)*?`)
		} else {
			re.WriteString(strings.ReplaceAll(regexp.QuoteMeta(l), `\.\.\.`, `.*`))
		}
	}
	re.WriteString(`$`)
	return regexp.MustCompile(re.String()).MatchString(evened(got))
}

// TestAPageIsReadAsTheGuidesTestsNeedIt: its blocks, their notes, and what
// passes for the same output.
func TestAPageIsReadAsTheGuidesTestsNeedIt(t *testing.T) {
	page := t.TempDir() + "/page.md"
	testbed.Write(t, page, "# Page\n\n## One\n\n<!-- given: rain -->\n\n    $ a \\\n    > b\n    c 17 ms\n\n    $ d\n\nText.\n\n    for reading\n\n<!-- file: ~/x -->\n\n    $HOME\n    y\n")
	all := pageBlocks(t, page)
	if len(all) != 3 {
		t.Fatalf("%d blocks, want 3", len(all))
	}
	if b := all[0]; b.given != "rain" || b.part != "One" || b.line != 7 {
		t.Errorf("the first is %+v", b)
	}
	if s := all[0].steps(); len(s) != 2 || s[0].command != "a \\\nb" || s[1].command != "d" {
		t.Errorf("its steps are %+v", s)
	} else if !s[0].shows("c 3.5 s\r\n") || s[0].shows("c\n") || s[0].shows("c 1 ms\nmore\n") || !s[1].shows("") || s[1].shows("x\n") {
		t.Error("what it shows is compared wrongly")
	}
	if s := (step{seen: "a\n...\nz ... y\n"}); !s.shows("a\nz 1 y\n") || !s.shows("a\nb\nc\nz 1 y\n") || s.shows("z 1 y\n") || s.shows("a\nz 1 x\n") {
		t.Error("... is not what it should be")
	}
	if b := all[1]; len(b.steps()) != 0 || b.given != "" || b.file != "" {
		t.Errorf("the second is %+v", b)
	}
	if b := all[2]; b.file != "~/x" || len(b.steps()) != 0 || b.lines[0] != "$HOME" {
		t.Errorf("the third is %+v", b)
	}
}
