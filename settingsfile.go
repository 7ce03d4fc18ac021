package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/joho/godotenv"
	"github.com/urfave/cli/v2"
)

// defaultSettings is the settings file that may be missing.
const defaultSettings = "/etc/default/minimail"

// readSettings puts the settings of a file into the environment, except those
// that the environment has already. It returns where each one stands.
func readSettings(file string, named bool) (map[string]string, error) {
	f, err := os.Open(file)
	if err == nil && isDir(file) {
		f.Close()
		err = syscall.EISDIR
	}
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, readError("cannot read the settings", file, "--settings", err)
	}
	defer f.Close()
	values, lines, err := parseSettings(f, file)
	if err != nil {
		return nil, err
	}
	for name, value := range values {
		if os.Getenv(name) != "" {
			delete(lines, name)
		} else if err := os.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", lines[name], name, err)
		}
	}
	return lines, nil
}

const settingForm = "for example MINIMAIL_HOST=me@host.example.com, quoted as in sh"

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// parseSettings reads lines of NAME=value, quoted as in sh, with comments. A
// MINIMAIL_ name that is no setting is an error; any other name is somebody
// else's. An empty value is none.
func parseSettings(r io.Reader, file string) (values, lines map[string]string, err error) {
	known := settingNames()
	values, lines = map[string]string{}, map[string]string{}
	scan, n := bufio.NewScanner(r), 1
	for ; scan.Scan(); n++ {
		at := fmt.Sprintf("%s, line %d", file, n)
		line := scan.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff") // an editor's byte order mark
		}
		m, err := godotenv.Unmarshal(line)
		if err != nil {
			return nil, nil, hint(fmt.Errorf("%s: expected NAME=value: %w", at, err), settingForm)
		}
		for name, value := range m {
			switch {
			case !settingName.MatchString(name): // godotenv takes a line without = for a value of nothing
				return nil, nil, hint(fmt.Errorf("%s: expected NAME=value", at), settingForm)
			case slices.Contains(known, name) && value != "":
				values[name], lines[name] = value, at
			case slices.Contains(known, name):
				delete(values, name)
			case strings.HasPrefix(name, "MINIMAIL_"):
				return nil, nil, hint(fmt.Errorf("%s: unknown setting %s", at, name), "%s", didYouMean(nearestSetting(name, known), "minimail --help lists the options"))
			}
		}
	}
	if err := scan.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, nil, hint(fmt.Errorf("%s, line %d: expected NAME=value: %w", file, n, errors.New("the line is too long")), settingForm)
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s, line %d: %w", file, n, err)
	}
	return values, lines, nil
}

func nearestSetting(name string, known []string) string {
	var all []*cli.Command
	for _, k := range known {
		all = append(all, &cli.Command{Name: k})
	}
	return cli.SuggestCommand(all, name)
}
