package settings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/xrash/smetrics"

	"minimail/internal/fail"
)

// defaultFile is the settings file that may be missing.
const defaultFile = "/etc/default/minimail"

// An entry is a setting's value in the file, and where it stands.
type entry struct{ value, line string }

// readFile reads the settings file. The only one that may be missing is one
// that nobody has named. With an error come the settings of the lines that are
// in order.
func readFile(file string, named bool) (map[string][]entry, error) {
	f, err := open(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	switch {
	case errors.Is(err, ErrIrregular):
		return nil, fail.Hint(fail.File("cannot read the settings", file, err), "--settings another FILE # the daemon reads it once more, and so does a restart")
	case err != nil:
		return nil, fail.Read("cannot read the settings", file, "--settings", err)
	}
	defer f.Close()
	return parseFile(f, file)
}

const form = "for example MINIMAIL_HOST=me@host.example.com; nothing is expanded"

// parseFile reads lines of NAME=value, quoted as in sh, with comments. Values
// are literal: nothing is expanded. A MINIMAIL_ name that is no setting is an
// error; any other name is somebody else's. An empty value is none. Several
// lines of a repeatable option's setting add up; of any other the last counts.
func parseFile(r io.Reader, file string) (map[string][]entry, error) {
	all, first := map[string][]entry{}, error(nil)
	repeatable := repeatableNames()
	scan, n := bufio.NewScanner(r), 0
	for scan.Scan() {
		n++
		at := fmt.Sprintf("%s, line %d", file, n)
		name, value, err := parseLine(scan.Text())
		if strings.HasPrefix(scan.Text(), "\ufeff") {
			err = errors.New("there is a byte order mark in front of it: save the file without")
		}
		switch {
		case errors.Is(err, errNeeds) && !isOurs(name): // sh does something else there
		case err != nil:
			first = orFirst(first, fail.Hint(fmt.Errorf("%s: expected NAME=value: %w", at, err), form))
		case name == "":
		case !slices.Contains(names(), name):
			if isOurs(name) {
				first = orFirst(first, fail.Hint(fmt.Errorf("%s: unknown setting %s", at, name), "%s", didYouMean(nearest(name, names()), "minimail --help lists the options")))
			}
		case value == "":
			delete(all, name)
		case slices.Contains(repeatable, name):
			all[name] = append(all[name], entry{value, at})
		default:
			all[name] = []entry{{value, at}}
		}
	}
	if err := scan.Err(); errors.Is(err, bufio.ErrTooLong) {
		first = orFirst(first, fail.Hint(fmt.Errorf("%s, line %d: expected NAME=value: %w", file, n+1, errors.New("the line is too long")), form))
	} else if err != nil {
		first = orFirst(first, fail.File("cannot read the settings", fmt.Sprintf("%s, line %d", file, n+1), err))
	}
	return all, first
}

// isOurs reports whether a name is one of ours, or means to be, as MINIMAL_HOST and
// minimail_host.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "MINIMAIL_") || slices.Contains(names(), name) || slices.ContainsFunc(names(), func(known string) bool {
		return strings.HasPrefix(known, "MINIMAIL_") && smetrics.WagnerFischer(strings.ToUpper(name), known, 1, 1, 1) <= 1
	})
}

var (
	assignment = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=(.*)$`)
	// word is one of sh's, and part what is quoted in it.
	word    = regexp.MustCompile(`^(?:[^ \t'"\\;&|<>()]|` + part.String() + `)*`)
	part    = regexp.MustCompile(`\\.|'[^']*'|"(?:[^"\\]|\\.)*"`)
	escaped = regexp.MustCompile("\\\\([\"\\\\$`])") // within "

	errNeeds = errors.New("spaces, and signs such as ; and &, need quotes around the value")
)

// parseLine reads one line; an empty one has no name.
func parseLine(line string) (name, value string, err error) {
	line = strings.Trim(line, " \t\r")
	if line == "" || line[0] == '#' {
		return "", "", nil
	}
	m := assignment.FindStringSubmatch(line)
	if m == nil {
		return "", "", errors.New("it does not begin with a name and =")
	}
	value, err = unquote(m[2])
	return m[1], value, err
}

// unquote is what sh makes of the text behind a name's = (POSIX.1-2024, Shell
// Command Language, 2.2 and 2.3), but that $ and ` mean nothing. So does systemd
// (systemd.exec(5), EnvironmentFile=), unless quotes or a comment come later.
func unquote(text string) (string, error) {
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
		return "", fmt.Errorf("there is a control character in it: %q", text[i])
	}
	value := strings.TrimLeft(text, " \t")
	if value != text && strings.HasPrefix(value, "#") {
		return "", nil
	}
	value = word.FindString(value)
	behind := strings.TrimLeft(text, " \t")[len(value):]
	switch rest := strings.TrimLeft(behind, " \t"); {
	case rest == "" || rest != behind && rest[0] == '#':
	case rest == `\`:
		return "", errors.New(`a \ at its end: each setting has one line`)
	case rest == behind && (rest[0] == '"' || rest[0] == '\''):
		return "", fmt.Errorf("unmatched %c", rest[0])
	default:
		return "", errNeeds
	}
	return part.ReplaceAllStringFunc(value, func(p string) string {
		switch p[0] {
		case '\\':
			return p[1:]
		case '"':
			return escaped.ReplaceAllString(p[1:len(p)-1], "$1")
		}
		return p[1 : len(p)-1]
	}), nil
}

func orFirst(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

func repeatableNames() []string {
	var all []string
	for _, o := range options() {
		if o.repeatable() {
			all = append(all, o.env...)
		}
	}
	return all
}
