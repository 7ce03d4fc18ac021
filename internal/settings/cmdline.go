package settings

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"minimail/internal/fail"
)

// A call is a command line taken apart, with the settings of the environment
// and of the file added where it is silent.
type call struct {
	set     *flag.FlagSet // the value of each option, by its first name
	given   map[string]bool
	origins map[string]origin // by name, of those that are not given
	options []string          // as they were given, without the word
	word    string
	words   []Word // that there are
	file    string
	dir     string // where it was called
	// environment is what it says of settings.
	environment map[string]string
}

// An origin is where a value comes from: a setting of the environment, or of
// the settings file.
type origin struct {
	setting string
	line    string // "FILE, line N"; "": the environment
}

// newCall knows all options, at their defaults.
func newCall() (*call, error) {
	c := &call{set: flag.NewFlagSet("minimail", flag.ContinueOnError), given: map[string]bool{}, origins: map[string]origin{}}
	for _, o := range allOptions() {
		if err := o.Apply(c.set); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// take reads options and words, wherever they stand. What follows -- is a word.
func (c *call) take(args []string) (words []string, err error) {
	all := allOptions()
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(words, args...), nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		i := slices.IndexFunc(all, func(o option) bool { return slices.Contains(o.Names(), name) })
		if i < 0 {
			return nil, unknownOption(arg, name)
		}
		o := all[i]
		c.options = append(c.options, arg)
		switch {
		case !o.takesValue() && !hasValue:
			value = "true"
		case !hasValue && len(args) == 0:
			return nil, fail.Hint(fmt.Errorf("option %s needs a value", dashed(name)), "%s", strings.Join(strings.Fields(optionLine(o.Flag)), " "))
		case !hasValue:
			value, args = args[0], args[1:]
			c.options = append(c.options, value)
		}
		if err := c.put(o, value); err != nil {
			return nil, fmt.Errorf("%s %w", dashed(name), err)
		}
		c.given[o.name()] = true
	}
	return words, nil
}

// on reports whether a switch is.
func (c *call) on(name string) bool { return c.set.Lookup(name).Value.String() == "true" }

// put sets an option to a value, or adds it if the option is repeatable.
func (c *call) put(o option, value string) error {
	if _, err := strconv.ParseBool(value); err != nil && !o.takesValue() {
		return fmt.Errorf("%q: expected true or false", value)
	}
	return c.set.Set(o.name(), value)
}

// addSettings looks up in the environment and in the file what the command line
// does not say. The file's user is the one that sudo must not overrule.
func (c *call) addSettings(file map[string][]entry) error {
	for _, o := range options() {
		if c.given[o.name()] {
			continue
		}
		from, values := origin{}, []string(nil)
		for _, name := range o.env {
			if v := environment(name); v != "" && name != "SUDO_USER" && values == nil {
				from, values = origin{setting: name}, inEnvironment(o, v)
			}
		}
		for _, name := range o.env {
			if entries := file[name]; len(entries) > 0 && values == nil {
				from = origin{name, entries[0].line}
				for _, e := range entries {
					values = append(values, e.value)
				}
			}
		}
		if v := environment("SUDO_USER"); v != "" && values == nil && slices.Contains(o.env, "SUDO_USER") {
			from, values = origin{setting: "SUDO_USER"}, []string{v}
		}
		for _, v := range values {
			c.origins[o.name()] = from
			if err := c.put(o, v); err != nil {
				return fmt.Errorf("%s %w", c.where(o), err)
			}
		}
	}
	return nil
}

// environment is a setting of the environment, or "". Where root has called
// sudo, SUDO_USER says nothing about whom to become.
func environment(name string) string {
	if v := os.Getenv(name); name != "SUDO_USER" || v != "root" {
		return v
	}
	return ""
}

// inEnvironment is what a variable's value stands for: of a repeatable option,
// each line is one.
func inEnvironment(o option, v string) []string {
	if o.repeatable() {
		return strings.FieldsFunc(v, func(c rune) bool { return c == '\n' })
	}
	return []string{v}
}

// theWord is the one word of the program's that stands there, or start. Only
// settings may be followed by something: names.
func theWord(said []string, words []Word) (word string, settings []string, err error) {
	if len(said) == 0 {
		return "start", nil, nil
	}
	i := slices.IndexFunc(said, func(w string) bool {
		return !slices.ContainsFunc(words, func(known Word) bool { return known.Name == w })
	})
	switch {
	case said[0] == "settings":
		for _, name := range said[1:] {
			if !slices.Contains(names(), name) {
				return "", nil, fail.Hint(fmt.Errorf("unknown setting %q", name), "%s", didYouMean(nearest(name, names()), "minimail settings lists them"))
			}
		}
		return said[0], said[1:], nil
	case i >= 0:
		return "", nil, fail.Hint(fmt.Errorf("unknown command %q", said[i]), "%s", instead(said[i], words))
	case len(said) > 1:
		return "", nil, fail.Hint(fmt.Errorf("one command at a time: %q is left over", said[1]), "minimail --help shows the usage")
	}
	return said[0], nil, nil
}

// where names an option and the source of its value, for errors.
func (c *call) where(o option) string {
	from, ok := c.origins[o.name()]
	switch {
	case !ok:
		return dashed(o.name())
	case from.line != "":
		return fmt.Sprintf("%s (%s in %s)", dashed(o.name()), from.setting, from.line)
	}
	return fmt.Sprintf("%s (%s)", dashed(o.name()), from.setting)
}

// withoutEffect are the options that were given and mean nothing to the word.
func (c *call) withoutEffect() (all []option) {
	for _, o := range options() {
		if c.given[o.name()] && !o.means(c.word) {
			all = append(all, o)
		}
	}
	return all
}

// Argv is the command line that says the same where the environment is not
// passed on, as by sudo; without the program's name.
func (s Settings) Argv() []string {
	argv := slices.Clone(s.call.options)
	for _, o := range options() {
		from, ok := s.call.origins[o.name()]
		if !ok || from.line != "" || from.setting == "SUDO_USER" || !o.means(s.Word) {
			continue
		}
		for _, v := range s.call.values(o) {
			argv = append(argv, dashed(o.name())+"="+v)
		}
	}
	return append(append(argv, s.Word), s.Names...)
}

// values are an option's, one if it is not repeatable.
func (c *call) values(o option) []string {
	if o.repeatable() {
		return c.list(o.name())
	}
	return []string{c.set.Lookup(o.name()).Value.String()}
}

func (c *call) list(name string) []string { return c.set.Lookup(name).Value.(*list).all }

// context is how cli reads the values.
func (c *call) context() *cli.Context { return cli.NewContext(nil, c.set, nil) }
