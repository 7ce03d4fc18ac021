package settings

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// A Word is what the program can be asked to do. One without a Usage is for
// scripts, and not in the help.
type Word struct {
	Name, Usage string
	Do          func(Settings) error
}

// The groups of options in the help.
const (
	reach = "What to reach:"
	long  = "How long, how many (30 is 30s; 1m30s):"
	where = "Who and where:"
)

// An option is a line of the table: what cli needs for its own part, the names
// of its setting in the environment and in the settings file, the first that is
// set being the one that counts, and the words that it means something to.
type option struct {
	cli.Flag
	env   []string
	words []string
}

func (o option) name() string { return o.Names()[0] }

func (o option) takesValue() bool {
	_, isSwitch := o.Flag.(*cli.BoolFlag)
	return !isSwitch
}

func (o option) repeatable() bool {
	_, is := o.Flag.(*cli.GenericFlag)
	return is
}

// A list is a repeatable option's values. cli's own ends one at a comma.
type list struct {
	all  []string
	said bool // by somebody: they are not the default
}

func (l *list) Set(value string) error {
	if !l.said {
		l.all, l.said = nil, true
	}
	l.all = append(l.all, value)
	return nil
}

// String is for the help, which tells the default at the end.
func (l *list) String() string { return "" }

// The words that an option may be for.
var (
	toAll     = []string{"start", "stop", "restart", "reload", "status", "check", "settings"}
	toRun     = []string{"start", "restart", "reload", "check", "settings"}
	toLog     = []string{"start", "restart", "reload", "settings"}
	toStart   = []string{"start", "restart", "check"} // check: of what would be started
	toAnswer  = []string{"status", "check"}
	toCheckUp = []string{"check"}
)

// options is the one place of names, settings and defaults.
func options() []option {
	text := func(category, name, env, value, usage string, words []string, aliases ...string) option {
		return option{&cli.StringFlag{Category: category, Name: name, Aliases: aliases, Value: value, Usage: usage}, strings.Fields(env), words}
	}
	repeated := func(category, name, env, usage string, value ...string) option {
		return option{&cli.GenericFlag{Category: category, Name: name, Value: &list{all: value}, Usage: usage}, strings.Fields(env), toRun}
	}
	flag := func(category, name, env, usage string, words []string, aliases ...string) option {
		return option{&cli.BoolFlag{Category: category, Name: name, Aliases: aliases, Usage: usage}, strings.Fields(env), words}
	}
	return []option{
		text(reach, "host", "MINIMAIL_HOST", "", "DEST|[user@]host, or a Host of ssh_config; required", toRun),
		repeated(reach, "forward", "MINIMAIL_FORWARD", "SPEC|[BIND:]PORT:TUNNEL:FARHOST:FARPORT; repeatable", "25:1025:localhost:25"),
		text(reach, "protocol", "MINIMAIL_PROTOCOL", "auto", "NAME|smtp, tcp; auto: smtp if a PORT is a mail port", toRun),
		text(reach, "ssh", "MINIMAIL_SSH", "ssh", "PROGRAM|the ssh program", toRun),
		text(reach, "ssh-config", "MINIMAIL_SSH_CONFIG", "", "FILE|ssh's -F file", toRun),
		repeated(reach, "ssh-option", "MINIMAIL_SSH_OPTION", "K=V|one more -o for ssh; repeatable"),

		text(long, "idle", "MINIMAIL_IDLE", "10s", "TIME|close the tunnel so long after the last client", toRun),
		text(long, "jitter", "MINIMAIL_JITTER", "25s", "TIME|plus a random time from 0 to this", toRun),
		text(long, "wait", "MINIMAIL_WAIT", "25s", "TIME|hold a client so long until it can be served", toRun),
		text(long, "drain", "MINIMAIL_DRAIN", "10s", "TIME|when stopped, let clients finish for so long", toRun),
		text(long, "max-clients", "MINIMAIL_MAX_CLIENTS", "256", "N|serve so many at a time; the others wait", toRun),

		text(where, "user", "MINIMAIL_USER SUDO_USER", "", "NAME|whom to become once the ports are bound", toRun, "u"),
		text(where, "pid-file", "MINIMAIL_PID_FILE", "", "FILE|root: /run/minimail.pid", toAll, "p"),
		text(where, "log-file", "MINIMAIL_LOG_FILE", "", "FILE|root: /var/log/minimail.log", toRun, "l"),
		text(where, "log-format", "MINIMAIL_LOG_FORMAT", "text", "FMT|text or json", toLog),
		text(where, "settings", "MINIMAIL_SETTINGS", defaultFile, "FILE|file of NAME=value lines", toAll),
		flag(where, "foreground", "", "stay in the foreground, log to stderr", toStart, "X"),
		flag(where, "verbose", "MINIMAIL_VERBOSE", "log more", toLog, "v"),
		flag(where, "json", "", "check, status: answer in JSON", toAnswer),
		flag(where, "nagios", "", "check: answer in a line, as a Nagios plugin", toCheckUp),
	}
}

// The options that cli knows by itself.
var (
	helpFlag    = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Category: where, Usage: "print this help; -V, --version: the version"}
	versionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Hidden: true}
)

// allOptions are those of the table, and cli's.
func allOptions() []option {
	return append(options(), option{helpFlag, nil, nil}, option{versionFlag, nil, nil})
}

// names are those of all settings.
func names() []string {
	var all []string
	for _, o := range options() {
		all = append(all, o.env...)
	}
	return all
}

// app is the program as cli sees it: one level of options, and words.
func app(words []Word, version string) *cli.App {
	cli.HelpFlag, cli.VersionFlag, cli.FlagStringer = helpFlag, versionFlag, optionLine
	a := &cli.App{
		Name:                  "minimail",
		Usage:                 "an ssh tunnel for mail that opens by itself",
		Version:               version,
		CustomAppHelpTemplate: helpTemplate,
		HideHelpCommand:       true,
	}
	for _, o := range options() {
		a.Flags = append(a.Flags, o.Flag)
	}
	for _, w := range words {
		a.Commands = append(a.Commands, &cli.Command{Name: w.Name, Usage: w.Usage, Hidden: w.Usage == ""})
	}
	a.Setup()
	return a
}

// Help prints what the program can do.
func Help(w io.Writer, words []Word, version string) error {
	a := app(words, version)
	var text strings.Builder // cli keeps to itself what w says
	a.Writer = &text
	err := cli.ShowAppHelp(cli.NewContext(a, nil, nil))
	if err == nil {
		_, err = io.WriteString(w, text.String())
	}
	return err
}

// helpTemplate fits a terminal of 80 by 40.
const helpTemplate = `minimail: {{.Usage}}
usage: minimail [OPTIONS] [{{range $i, $c := .VisibleCommands}}{{if $i}} | {{end}}{{$c.Name}}{{end}}]{{range .VisibleCommands}}
  {{printf "%-9s" .Name}} {{.Usage}}{{end}}
{{$group := ""}}{{range .VisibleFlags}}{{if ne .GetCategory $group}}{{$group = .GetCategory}}
{{$group}}
{{end}}  {{.}}
{{end}}In the environment and in the settings file, --host is MINIMAIL_HOST, and so on.
Examples (the default of --forward is 25:1025:localhost:25):
  sudo minimail check --host me@host.example.com
  sudo minimail --host me@host.example.com
  minimail --host me@host.example.com --forward 2525:1025:localhost:25 # no root
`

// optionLine is an option's line in the help.
func optionLine(f cli.Flag) string {
	names := "    " + dashed(f.Names()[0])
	if len(f.Names()) > 1 {
		names = dashed(f.Names()[1]) + ", " + dashed(f.Names()[0])
	}
	doc := f.(cli.DocGenerationFlag)
	what, usage, _ := strings.Cut(doc.GetUsage(), "|")
	if !doc.TakesValue() {
		what, usage = "", doc.GetUsage()
	}
	if v := doc.GetValue(); v != "" && doc.TakesValue() {
		usage += " (" + strings.Trim(v, `"`) + ")"
	}
	return fmt.Sprintf("%-23s %s", names+" "+what, usage)
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// means reports whether the option means something to a word.
func (o option) means(word string) bool { return o.words == nil || slices.Contains(o.words, word) }
