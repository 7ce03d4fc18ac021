package settings

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"minimail/internal/fail"
)

// Given is what a minimail was told in no file: options, as --name=value, and
// settings of its environment. File names begin with /.
type Given struct {
	Options     []string          `json:"options,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
}

// Given is what the command line and the environment have said.
func (s Settings) Given() Given {
	g := Given{Environment: map[string]string{}}
	if s.call == nil {
		return g
	}
	for _, o := range options() {
		from, set := s.call.origins[o.name()]
		switch values := s.call.absolute(o); {
		case s.call.given[o.name()] && o.means("start"):
			for _, v := range values {
				g.Options = append(g.Options, dashed(o.name())+"="+v)
			}
		case set && from.line == "":
			g.Environment[from.setting] = strings.Join(values, "\n")
		}
	}
	return g
}

// absolute are an option's values, the names of files as seen from anywhere.
func (c *call) absolute(o option) []string {
	values := slices.Clone(c.values(o))
	for i, v := range values {
		isFile := slices.Contains([]string{"ssh-config", "pid-file", "log-file", "settings"}, o.name()) || o.name() == "ssh" && strings.Contains(v, "/")
		if isFile && v != "" && (v != noFile || o.name() != "ssh-config") && !filepath.IsAbs(v) {
			values[i] = filepath.Join(c.dir, v)
		}
	}
	return values
}

// Finds are the options that say which minimail is meant, or how to answer, and
// not how it is to run.
var finds = []string{"pid-file", "settings", "json", "nagios"}

// Which are the options of a command line that say which minimail is meant.
func (g Given) Which() (all []string) {
	for _, o := range g.Options {
		if strings.HasPrefix(o, "--pid-file=") || strings.HasPrefix(o, "--settings=") {
			all = append(all, o)
		}
	}
	return all
}

// Said are the options that the command line has, but for those that say which
// minimail is meant.
func (s Settings) Said() []string {
	var all []string
	for _, o := range options() {
		if s.call.given[o.name()] && !slices.Contains(finds, o.name()) {
			all = append(all, dashed(o.name()))
		}
	}
	return all
}

// Has reports whether anybody has set the option, anywhere.
func (s Settings) Has(name string) bool {
	_, set := s.call.origins[name]
	return set || s.call.given[name]
}

// InFile reports whether the settings file has set the option.
func (s Settings) InFile(name string) bool { return s.call.origins[name].line != "" }

// Again are the hints, without empty ones. What is minimail's in them gets what
// this one was given: alone it would have no host, another port, another pid file.
// ssh takes the first of its options, which is the one of the hint.
func (g Given) Again(hints []string) (all []string) {
	for _, hint := range hints {
		if hint == "" {
			continue
		}
		line, remark, remarked := strings.Cut(hint, " # ")
		commands := []string{line}
		if !strings.Contains(line, "'") { // in which a ; may be part of a word
			commands = strings.Split(line, "; ")
		}
		for i, command := range commands {
			commands[i] = g.again(command)
		}
		line = strings.Join(commands, "; ")
		if remarked {
			line += " # " + remark
		}
		all = append(all, line)
	}
	return all
}

// asks is a command of a hint that needs to know which minimail is meant, and
// begins one that needs to know everything.
var (
	asks   = regexp.MustCompile(`^(sudo )?minimail (stop|status|restart|reload)$`)
	begins = regexp.MustCompile(`^(sudo )?minimail (start$|check$|check --|--forward )`)
)

func (g Given) again(command string) string {
	var options []string
	switch {
	case asks.MatchString(command):
		options = g.Which()
	case begins.MatchString(command):
		options = g.Options
	}
	line := command
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		if name == "--ssh-option" || !strings.Contains(command, name+" ") {
			line += " " + fail.Quote(o)
		}
	}
	return line
}

// Like reads the settings again, as those of one that was given g. What is
// said now comes first; but the user is that of the sudo of then. The environment
// is changed accordingly, for whoever is started.
func (s Settings) Like(g Given) (Settings, error) {
	for _, name := range names() {
		now, v := s.call.environment[name], g.Environment[name]
		if v == "" || now != "" && name != "SUDO_USER" {
			v = now
		}
		os.Setenv(name, v)
	}
	now := slices.Clone(s.call.options)
	for _, o := range g.Options {
		name, _, _ := strings.Cut(strings.TrimPrefix(o, "--"), "=")
		if !s.call.given[name] {
			now = append(now, o)
		}
	}
	return Parse(append(now, s.Word), s.call.words)
}

// Args is the command line again, without the program's name.
func (s Settings) Args() []string { return append(slices.Clone(s.call.options), s.Word) }

// Replaces reports whether the word is about a minimail that runs.
func (s Settings) Replaces() bool { return s.Word == "restart" || s.Word == "reload" }

// NeedHost is an error if there is no host.
func (s Settings) NeedHost() error {
	if s.Host != "" {
		return nil
	}
	return usage(fail.Hint(errors.New("no host to log in to"), "--host [user@]host, or MINIMAIL_HOST=[user@]host in %s", s.Editable()))
}
