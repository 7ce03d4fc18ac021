package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// An invocation is a command line taken apart: cli wants options first, and
// takes the first word that is none for the end of them.
type invocation struct {
	options []string
	word    string
	given   map[string]bool   // by an option's first name: it stands on the command line
	lines   map[string]string // by setting's name: where in the settings file it comes from
	environ map[string]string // the settings of the environment we were called with
}

// parse takes args apart and merges the settings file into the environment,
// where cli will find it.
func parse(args []string) (*invocation, error) {
	inv := &invocation{given: map[string]bool{}, environ: map[string]string{}}
	for _, name := range settingNames() {
		// An empty setting is one that is not set; and where root has called
		// sudo, that says nothing about whom to become.
		if v, ok := os.LookupEnv(name); ok && (v == "" || name == "SUDO_USER" && v == "root") {
			os.Unsetenv(name)
		} else if ok {
			inv.environ[name] = v
		}
	}
	if err := inv.checkSwitches(); err != nil {
		return nil, cli.Exit(err, exitUsage)
	}
	fs, all, err := newFlagSet()
	if err != nil {
		return nil, cli.Exit(err, exitUsage)
	}
	words, err := inv.split(fs, args)
	if err != nil {
		return nil, cli.Exit(explain(err, all), exitUsage)
	}
	for _, f := range all {
		for _, name := range f.Names() {
			inv.given[f.Names()[0]] = inv.given[f.Names()[0]] || inv.given[name]
		}
	}
	if inv.given["help"] || inv.given["version"] {
		return inv, nil
	}
	if inv.word, err = theWord(words); err != nil {
		return nil, cli.Exit(err, exitUsage)
	}
	named := inv.given["settings"] || inv.environ["MINIMAIL_SETTINGS"] != ""
	file := fs.Lookup("settings").Value.String()
	if file == "" { // a shell's variable that is not set, say
		return nil, cli.Exit(errors.New(`--settings "": expected a file name: it is empty`), exitUsage)
	}
	if inv.lines, err = readSettings(file, named); err != nil {
		return nil, cli.Exit(err, exitUsage)
	}
	if err := inv.checkSwitches(); err != nil {
		return nil, cli.Exit(err, exitUsage)
	}
	return inv, nil
}

// newFlagSet knows all options, which it returns as well.
func newFlagSet() (*flag.FlagSet, []cli.Flag, error) {
	fs := flag.NewFlagSet("minimail", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	all := append(flags(), cli.VersionFlag, cli.HelpFlag)
	for _, f := range all {
		if err := f.Apply(fs); err != nil {
			return nil, nil, err
		}
	}
	return fs, all, nil
}

// checkSwitches looks at the settings that are on or off: of all settings they
// are the only ones that cli itself reads, and complains about at length.
func (inv *invocation) checkSwitches() error {
	for _, f := range flags() {
		b, ok := f.(*cli.BoolFlag)
		if !ok || len(b.EnvVars) == 0 || os.Getenv(b.EnvVars[0]) == "" {
			continue
		}
		if v := os.Getenv(b.EnvVars[0]); !isBool(v) {
			return fmt.Errorf("%s %q: expected true or false", inv.where(f), v)
		}
	}
	return nil
}

func isBool(v string) bool {
	_, err := strconv.ParseBool(v)
	return err == nil
}

// split tells options from words, wherever they stand.
func (inv *invocation) split(fs *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		options := args[:len(args)-fs.NArg()]
		if n := len(options); n > 0 && options[n-1] == "--" && complete(options[:n-1]) {
			options = options[:n-1]
		}
		inv.options = append(inv.options, options...)
		if fs.NArg() == 0 {
			break
		}
		words, args = append(words, fs.Arg(0)), fs.Args()[1:]
	}
	fs.Visit(func(f *flag.Flag) { inv.given[f.Name] = true })
	return words, nil
}

// complete tells whether no option of these lacks its value: then a -- behind
// them ends the options, and is not the value of the last one.
func complete(options []string) bool {
	fs, _, err := newFlagSet()
	return err == nil && fs.Parse(options) == nil
}

func (inv *invocation) normalised() []string {
	if inv.word == "" {
		return inv.options
	}
	return append(inv.options[:len(inv.options):len(inv.options)], inv.word)
}

// theWord is the one command among words.
func theWord(words []string) (string, error) {
	if len(words) == 0 {
		return "start", nil
	}
	all := commands(nil)
	for _, w := range words {
		if !slices.ContainsFunc(all, func(c *cli.Command) bool { return c.Name == w }) {
			return "", hint(fmt.Errorf("unknown command %q", w), "%s", didYouMean(nearestWord(all, w), "minimail --help lists the commands"))
		}
	}
	if len(words) > 1 {
		return "", hint(fmt.Errorf("one command at a time: %q is left over", words[1]), "minimail --help shows the usage")
	}
	return words[0], nil
}

// nearestWord is the command, or the option, that w may stand for, or "".
func nearestWord(all []*cli.Command, w string) string {
	if w == "help" || w == "version" {
		return "--" + w
	}
	// cli takes any word for like some command, and knows one of its own, help.
	near := cli.SuggestCommand(all, w)
	if near != "" && near != "help" && strings.Contains(w[:min(2, len(w))], near[:1]) {
		return near
	}
	return ""
}

// explain puts an error of package flag into our words.
func explain(err error, all []cli.Flag) error {
	const unknown, bare = "flag provided but not defined: -", "flag needs an argument: -"
	var value, option string
	switch s := err.Error(); {
	case scanned(s, "invalid boolean value %q for %s", &value, &option):
		return fmt.Errorf("%s %q: expected true or false", dashed(strings.Trim(option, "-:")), value)
	case strings.HasPrefix(s, unknown):
		name := s[len(unknown):]
		return hint(fmt.Errorf("unknown option %q", dashed(name)), "%s", didYouMean(cli.SuggestFlag(all, name, true), "minimail --help lists the options"))
	case strings.HasPrefix(s, bare):
		name := s[len(bare):]
		return hint(fmt.Errorf("option %s needs a value", dashed(name)), "%s", usageOf(name, all))
	}
	return err
}

func scanned(s, format string, into ...any) bool {
	n, err := fmt.Sscanf(s, format, into...)
	return err == nil && n == len(into)
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// didYouMean is a suggestion as a hint, or other if there is none.
func didYouMean(suggestion, other string) string {
	if suggestion == "" {
		return other
	}
	return fmt.Sprintf("did you mean %q?", suggestion)
}

// usageOf is the help's line of the option called name.
func usageOf(name string, all []cli.Flag) string {
	for _, f := range all {
		if slices.Contains(f.Names(), name) {
			return strings.Join(strings.Fields(optionLine(f)), " ")
		}
	}
	return ""
}

// settingNames are the environment names of all options.
func settingNames() []string {
	var names []string
	for _, f := range flags() {
		names = append(names, f.(cli.DocGenerationFlag).GetEnvVars()...)
	}
	return names
}

// asOptions returns the settings that came from the environment as options, for
// a sudo that does not pass the environment on.
func (inv *invocation) asOptions() []string {
	var args []string
	for _, f := range flags() {
		for _, env := range f.(cli.DocGenerationFlag).GetEnvVars() {
			v, ok := inv.environ[env]
			if !ok || env == "SUDO_USER" || inv.given[f.Names()[0]] {
				continue
			}
			values := []string{v}
			if env == "MINIMAIL_SSH_OPTION" { // as an option it is only one
				values = splitSSHOptions(v)
			}
			for _, v := range values {
				args = append(args, "--"+f.Names()[0]+"="+v)
			}
		}
	}
	return args
}

// where names the source of an option's value, for errors.
func (inv *invocation) where(f cli.Flag) string {
	option := dashed(f.Names()[0])
	if inv.given[f.Names()[0]] {
		return option
	}
	for _, env := range f.(cli.DocGenerationFlag).GetEnvVars() {
		if os.Getenv(env) == "" {
			continue
		}
		if line, ok := inv.lines[env]; ok {
			return fmt.Sprintf("%s (%s in %s)", option, env, line)
		}
		return fmt.Sprintf("%s (%s)", option, env)
	}
	return option
}
