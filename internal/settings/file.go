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
	"unicode/utf8"

	"github.com/hashicorp/go-envparse"
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
		case err != nil:
			first = orFirst(first, fail.Hint(fmt.Errorf("%s: expected NAME=value: %w", at, err), form))
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

// parseLine reads one line; an empty one has no name. Where sh would read another
// value than envparse does, it is an error.
func parseLine(line string) (name, value string, err error) {
	m, err := envparse.Parse(strings.NewReader(line))
	if bad := (*envparse.ParseError)(nil); errors.As(err, &bad) {
		return "", "", bad.Err
	}
	for name, value = range m {
	}
	if !closed.MatchString(line) { // envparse leaves what is before a comment
		value = strings.TrimRight(value, " \t")
	}
	switch {
	case utf8.ValidString(line) && !utf8.ValidString(value): // envparse 0.1.0 has lost a byte before a comment
		err = errors.New("the comment behind it needs a line of its own")
	case !isOurs(name):
	case glued.MatchString(line):
		err = errors.New("a # in a value needs quotes around the value")
	case !plain.MatchString(line):
		err = errors.New(`a \ within " stands before " or \ alone: use ' around the value`)
	}
	return name, value, err
}

// inQuotes is a piece of a value, and part one of any kind.
const (
	inQuotes = `(?:'[^']*'|"(?:[^"\\]|\\["\\])*")`
	part     = `(?:` + inQuotes + `|[^\s#'"])`
)

var (
	// glued is a # that sh takes for a part of the value, and envparse for a comment.
	glued = regexp.MustCompile(`^[^=]*=(?:(?:` + part + `|\s)*` + part + `)?#`)
	// closed is a value that ends with a quote.
	closed = regexp.MustCompile(`^[^=]*=(?:` + part + `|\s)*` + inQuotes + `\s*(?:#.*)?$`)
	// plain is a value in whose "" backslashes are the same to sh and to envparse.
	// Elsewhere they are the value's own: CORP\john is a user.
	plain = regexp.MustCompile(`^[^=]*=(?:` + part + `|\s)*(?:\s#.*)?$`)
)

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
