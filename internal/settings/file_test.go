package settings

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"minimail/internal/fail"
)

func TestASettingsFileIsReadLiterally(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                       {},
		"# nothing\n\n  # but comments\n":        {},
		"MINIMAIL_HOST=far":                      {"MINIMAIL_HOST": "far"},
		"MINIMAIL_HOST=far # the provider\n":     {"MINIMAIL_HOST": "far"},
		"MINIMAIL_HOST=\"far\" # it\n":           {"MINIMAIL_HOST": "far"},
		"MINIMAIL_HOST= # it\n":                  {},
		"SUDO_USER=CORP\\john # of a domain\n":   {"SUDO_USER": `CORP\john`},
		"SOMEBODY_ELSE=1\nMINIMAIL_HOST=a\n":     {"MINIMAIL_HOST": "a"}, // as long as one of ours
		"OTHERS=$(date -u)\nMINIMAIL_HOST=a\n":   {"MINIMAIL_HOST": "a"},
		"MINIMAIL_HOST='far'\r\n":                {"MINIMAIL_HOST": "far"},
		"MINIMAIL_HOST='a\\n'\n":                 {"MINIMAIL_HOST": `a\n`},
		"MINIMAIL_HOST=\"a\\\\b\"\n":             {"MINIMAIL_HOST": `a\b`},
		"  export MINIMAIL_HOST=far  \n":         {"MINIMAIL_HOST": "far"},
		"MINIMAIL_HOST='a # b'\n":                {"MINIMAIL_HOST": "a # b"},
		"MINIMAIL_HOST=\"a#b\" # it's a#c\n":     {"MINIMAIL_HOST": "a#b"},
		"MINIMAIL_HOST=a # b#c\nX=a#b\n":         {"MINIMAIL_HOST": "a"},
		"MINIMAIL_HOST='$HOME'\n":                {"MINIMAIL_HOST": "$HOME"},
		"MINIMAIL_HOST=\"a \\\"b\\\" c\"\n":      {"MINIMAIL_HOST": `a "b" c`},
		"MINIMAIL_HOST=a\nMINIMAIL_HOST=b\n":     {"MINIMAIL_HOST": "b"},
		"MINIMAIL_HOST=a\nMINIMAIL_HOST=\n":      {},
		"MINIMAIL_HOST=''\n":                     {},
		"SUDO_USER=andré\n":                      {"SUDO_USER": "andré"},
		"MINIMAIL_HOST=$USER@h\n":                {"MINIMAIL_HOST": "$USER@h"},
		"MINIMAIL_HOST=${A:-b}\n":                {"MINIMAIL_HOST": "${A:-b}"},
		"MINIMAIL_HOST='me'@h\n":                 {"MINIMAIL_HOST": "me@h"},
		"SUDO_USER=me\nPATH=/bin\nLANG=de\n":     {"SUDO_USER": "me"},
		"MINIMAIL_SSH_OPTION='A=1 B=2'\n":        {"MINIMAIL_SSH_OPTION": "A=1 B=2"},
		"MINIMAIL_FORWARD=\"25:1:a:1 26:2:a:1\"": {"MINIMAIL_FORWARD": "25:1:a:1 26:2:a:1"},
		"MINIMAIL_SSH_OPTION=Port=22":            {"MINIMAIL_SSH_OPTION": "Port=22"},
		"MINIMAIL_FORWARD=[::1]:25:1025:far:1":   {"MINIMAIL_FORWARD": "[::1]:25:1025:far:1"},
	} {
		entries, err := parseFile(strings.NewReader(text), "file")
		got := map[string]string{}
		for name, all := range entries {
			got[name] = all[len(all)-1].value
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if !maps.Equal(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestAValueIsWhatShMakesOfIt: of all short texts that could be quoted or have a
// comment, and are not refused. Spaces and
// backslashes without quotes are the value's own.
func TestAValueIsWhatShMakesOfIt(t *testing.T) {
	assignment := regexp.MustCompile(`^(?:'[^']*'|"(?:[^"\\]|\\.)*"|[^ '"\\])*(?: +#.*| *)$`)
	var script, want strings.Builder
	taken, texts := 0, []string{""}
	for len(texts) > 0 {
		text := texts[0]
		texts = texts[1:]
		if _, value, err := parseLine("SUDO_USER=" + text); err == nil && assignment.MatchString(text) {
			fmt.Fprintf(&script, "X=%s\nprintf '%%s\\n' \"$X\"\n", text)
			fmt.Fprintln(&want, value)
			taken++
		}
		if len(text) < 5 {
			for _, c := range "a #'\"\\" {
				texts = append(texts, text+string(c))
			}
		}
	}
	sh := exec.Command("sh")
	sh.Stdin = strings.NewReader(script.String())
	got, err := sh.CombinedOutput()
	if err != nil || string(got) != want.String() || taken < 900 {
		for i, line := range strings.Split(string(got), "\n") {
			if all := strings.Split(want.String(), "\n"); i >= len(all) || all[i] != line {
				t.Fatalf("value %d is %q to sh, and not to us (%v)", i, line, err)
			}
		}
		t.Fatalf("%v, %d texts taken", err, taken)
	}
}

func TestAMistakeInTheSettingsFileIsNamedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"MINIMAIL_HOSTS=far":              `file, line 1: unknown setting MINIMAIL_HOSTS did you mean "MINIMAIL_HOST"?`,
		"minimail_host=far":               `file, line 1: unknown setting minimail_host did you mean "MINIMAIL_HOST"?`,
		"\n# c\nMINIMAIL_IDEL=5\n":        `file, line 3: unknown setting MINIMAIL_IDEL did you mean "MINIMAIL_IDLE"?`,
		"MINIMAL_HOST=far":                `file, line 1: unknown setting MINIMAL_HOST`,
		"MINIMAIL_X=":                     `file, line 1: unknown setting MINIMAIL_X`,
		"MINIMAIL_HOST=far\nrabbit\n":     "file, line 2: expected NAME=value",
		"two words\n":                     "file, line 1: expected NAME=value",
		"MINIMAIL HOST=far\n":             "file, line 1: expected NAME=value",
		"=far\n":                          "file, line 1: expected NAME=value",
		"\n\nMINIMAIL_HOST=\"far\n":       "file, line 3: expected NAME=value: unmatched \"",
		"\ufeffMINIMAIL_HOST=far\n":       "file, line 1: expected NAME=value: there is a byte order mark",
		"MINIMAIL_HOST='far\n":            "file, line 1: expected NAME=value: unmatched '",
		"MINIMAIL_HOST=a\x01b\n":          "file, line 1: expected NAME=value: 0x01 is an invalid value character",
		"MINIMAIL_HOST=\"a\\n\"\n":        `file, line 1: expected NAME=value: a \ within " stands before`,
		"SUDO_USER=andré # her\n":         "file, line 1: expected NAME=value: the comment behind it needs a line of its own",
		"MINIMAIL_LOG_FILE=/mini#1.log\n": "file, line 1: expected NAME=value: a # in a value needs quotes around the value",
		"MINIMAIL_HOST=#far\n":            "file, line 1: expected NAME=value: a # in a value needs quotes around the value",
		"MINIMAIL_HOST: far\n":            "file, line 1: expected NAME=value",
		"MINIMAIL_HOST: a=b\n":            "file, line 1: expected NAME=value",
		"%=1\n":                           "file, line 1: expected NAME=value: ",
		"\n" + strings.Repeat("x", 1<<17): "file, line 2: expected NAME=value: the line is too long for example",
	} {
		_, err := parseFile(strings.NewReader(text), "file")
		if err == nil || !strings.HasPrefix(err.Error()+" "+fail.HintOf(err), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestOnlyTheDefaultSettingsFileMayBeMissing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if lines, err := readFile(missing, false); err != nil || len(lines) != 0 {
		t.Errorf("the default file: %v, %v", lines, err)
	}
	if _, err := readFile(missing, true); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a named file: %v", err)
	}
	if _, err := readFile(t.TempDir(), false); err == nil {
		t.Error("a directory can be read")
	}
}

// FuzzParseFile: whatever is in the file, either all of it is understood
// or the error says where it is not.
func FuzzParseFile(f *testing.F) {
	for _, text := range []string{
		"MINIMAIL_HOST=far\n", "# c\nexport SUDO_USER='me'\n", "MINIMAIL_X=1", "A=\"b\nc\"", "=", "'", "MINIMAIL_HOST=${A:-b}",
		"MINIMAIL_HOST=\"a\" MINIMAIL_IDLE=5", "A: b", "\xff=\xfe", "\rA=1\r", "A=\\", "A=\"\\",
	} {
		f.Add(text)
	}
	known := names()
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseFile(strings.NewReader(text), "file")
		if err != nil && (!strings.Contains(err.Error(), "file, line ") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("the error is %q", err)
		}
		for name, all := range entries {
			for _, e := range all {
				if e.value == "" || !strings.HasPrefix(e.line, "file, line ") {
					t.Errorf("%s is %q, from %q", name, e.value, e.line)
				}
			}
			if !slices.Contains(known, name) {
				t.Errorf("%s is no setting", name)
			}
		}
	})
}
