package docs_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// mostWords is how long the README and the pages may be all together, but for the
// tables that programs write. What one page says the others link to.
const mostWords = 17000

// aWord has a letter in it: numbers and the bars of tables are none.
var aWord = regexp.MustCompile(`\S*[A-Za-z]\S*`)

// written is what programs write: scripts/bench, scripts/matrix, and a test of
// tunnel/openssh, out of its table.
var written = regexp.MustCompile(`<!-- scripts/bench writes from here -->(?s:.*)<!-- to here -->|\| (faults?|ssh says) \|.*\n(\|.*\n)*`)

func pages(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("docs/*.md")
	if err != nil || len(all) < 10 {
		t.Fatalf("%d pages, %v", len(all), err)
	}
	return append(all, "README.md")
}

func TestThePagesAreShort(t *testing.T) {
	all := 0
	for _, page := range pages(t) {
		n := len(aWord.FindAllString(written.ReplaceAllString(testbed.Read(t, page), ""), -1))
		t.Logf("%5d %s", n, page)
		all += n
	}
	if all > mostWords {
		t.Errorf("README and docs have %d words, want %d at most", all, mostWords)
	}
	if n := len(regexp.MustCompile(`\n`).FindAllString(testbed.Read(t, "README.md"), -1)); n > 130 {
		t.Errorf("the README has %d lines, want 130 at most", n)
	}
}

// TestEveryTestThatAPageNamesIsThere, for the pages name tests in place of proofs.
func TestEveryTestThatAPageNamesIsThere(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, "_test.go") {
			for _, test := range testbed.Found(`(?m)^func (Test\w+)\(`, testbed.Read(t, name)) {
				there[test] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, test := range testbed.Found(`\b(Test[A-Z0-9]\w+)`, testbed.Read(t, page)) {
			if !there[test] {
				t.Errorf("%s: there is no %s", page, test)
			}
		}
	}
}

// american are words that are spelt in the British way here; names of others
// (no-color.org, systemd-analyze) aside.
var american = regexp.MustCompile(`(^|[^\w-])(colors?|colored|behaviors?|honor(ed|s)?|favor(s|ite)?|neighbors?|gray|catalog|analyze[ds]?|` +
	`cancel(ed|ing)|signal(ed|ing)|label(ed|ing)|(initial|real|recogn|organ|normal|optim|minim)iz(e[ds]?|ing))\b`)

func TestWordsAreSpeltInOneWay(t *testing.T) {
	files := append(slices.Concat(pages(t), productFiles(t)), "CHANGELOG.md", "docs/minimail.8", "scripts/minimail.default")
	for _, file := range files {
		for _, found := range american.FindAllString(testbed.Read(t, file), -1) {
			t.Errorf("%s: American: %q", file, found)
		}
	}
}
