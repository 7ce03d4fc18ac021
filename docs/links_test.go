package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

func TestEveryLinkOfADocumentLeadsSomewhere(t *testing.T) {
	if n := followLinks(t, "."); n < 40 {
		t.Errorf("only %d links were found", n)
	}
}

// TestEveryLinkOfAnInstalledDocumentLeadsSomewhere, where there is no checkout
// around it.
func TestEveryLinkOfAnInstalledDocumentLeadsSomewhere(t *testing.T) {
	testbed.NeedProgram(t, "dpkg-deb")
	deb, err := filepath.Glob(filepath.Join(testbed.Packages(t), "*.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("packages: %v, %v", deb, err)
	}
	dir := t.TempDir()
	testbed.Run(t, "dpkg-deb", "-x", deb[0], dir)
	if n := followLinks(t, filepath.Join(dir, "usr/share/doc/minimail")); n < 40 {
		t.Errorf("only %d links were found", n)
	}
}

var (
	markdownLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	markdownHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor     = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// followLinks follows the links from one file to another, or to a heading, of
// all Markdown files below dir, and returns how many there are.
func followLinks(t *testing.T, dir string) (links int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(page string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(page) != ".md" {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(testbed.Read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			name, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if name != "" {
				target = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: (%s) leads nowhere", page, m[1])
			} else if anchor != "" && !hasHeading(testbed.Read(t, target), anchor) {
				t.Errorf("%s: (%s): there is no such heading", page, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// hasHeading reports whether a page has a heading that is shown with this anchor.
func hasHeading(page, anchor string) bool {
	for _, h := range markdownHeading.FindAllStringSubmatch(page, -1) {
		if strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
