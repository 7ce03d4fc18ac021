// minimail opens an ssh tunnel for mail when a mail client comes, and closes
// it when the last one has left.
//
// A client's byte travels like this: a listener of forward accepts the client
// (serve in serve.go, forward.Forwarder.Serve); the dial function asks tunnel
// for a connection to the near end, which launches ssh if there is none
// (tunnel.Tunnel.Dial, Run); forward copies both ways until both sides have
// ended, small things in its relay, everything else over a bridge of the
// client's own; closing the connection gives the lease on the tunnel back.
package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// version is set by the linker for releases.
var version = ""

// The exit statuses, those of status after the LSB's init scripts.
const (
	exitFailure        = 1
	exitUsage          = 2
	exitDeadPidFile    = 1
	exitNotRunning     = 3
	exitNeedsRoot      = 4
	exitUnknown        = 4
	exitAlreadyRunning = 150
	exitNagiosUnknown  = 3
)

func main() { os.Exit(run(os.Args)) }

// run is the whole program but the exit.
func run(argv []string) int {
	inv, err := parse(argv[1:])
	if err == nil {
		err = newApp(inv).Run(append(argv[:1:1], inv.normalised()...))
	}
	if err == nil {
		return 0
	}
	if err.Error() == "" {
		return exitCode(err)
	}
	if slices.ContainsFunc(argv[1:], forNagios.MatchString) { // who reads stdout, and knows other codes
		fmt.Println("MINIMAIL UNKNOWN -", err)
		return exitNagiosUnknown
	}
	complain(os.Stderr, err)
	return exitCode(err)
}

// forNagios is the option as a line that cannot be read may have it.
var forNagios = regexp.MustCompile(`^--?nagios(=1|=[tT].*)?$`)

// exitCode is the status that an error carries, or 1.
func exitCode(err error) int {
	var ec cli.ExitCoder
	if errors.As(err, &ec) {
		return ec.ExitCode()
	}
	return exitFailure
}

// newApp returns the program as cli sees it: one level of options, and words.
func newApp(inv *invocation) *cli.App {
	cli.VersionPrinter = func(*cli.Context) { fmt.Println("minimail", versionString()) }
	return &cli.App{
		Name:                      "minimail",
		Usage:                     "an ssh tunnel for mail that opens by itself",
		Version:                   versionString(),
		CustomAppHelpTemplate:     helpTemplate,
		Flags:                     flags(),
		Commands:                  commands(inv),
		DefaultCommand:            "start",
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // run prints and main exits
	}
}

// commands are the words, in the order of the help.
func commands(inv *invocation) []*cli.Command {
	word := func(name, usage string, action func(settings) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, HideHelp: true, Action: func(c *cli.Context) error {
			s, err := inv.settings(c)
			if err != nil {
				return cli.Exit(err, exitUsage)
			}
			return action(s)
		}}
	}
	return []*cli.Command{
		word("start", "start the daemon (the default)", start),
		word("stop", "stop it; clients at work may finish", stop),
		word("restart", "stop it if it runs, then start it", restart),
		word("status", "say whether it runs; exit 0: yes, 1: it died, 3: no", status),
		word("check", "try all that mail needs; exit 0: well, 1: warnings, 2: not", check),
	}
}

func init() {
	cli.SuggestDidYouMeanTemplate = "%s"
	cli.FlagStringer = optionLine
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version", Hidden: true}
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Category: where, Usage: "print this help; -V, --version: the version", DisableDefaultText: true}
}

// The groups of options in the help.
const (
	reach = "What to reach:"
	long  = "How long, how many (30 is 30s; 1m30s):"
	where = "Who and where:"
)

// flags is the table of options: the one place of names, environment names and
// defaults.
func flags() []cli.Flag {
	text := func(category, name, env, value, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Category: category, Name: name, Aliases: aliases, EnvVars: strings.Fields(env), Value: value, Usage: usage}
	}
	list := func(category, name, env, usage string, value ...string) cli.Flag {
		return &cli.StringSliceFlag{Category: category, Name: name, EnvVars: strings.Fields(env), Value: cli.NewStringSlice(value...), Usage: usage, KeepSpace: true}
	}
	flag := func(category, name, env, usage string, aliases ...string) cli.Flag {
		return &cli.BoolFlag{Category: category, Name: name, Aliases: aliases, EnvVars: strings.Fields(env), Usage: usage, DisableDefaultText: true}
	}
	return []cli.Flag{
		text(reach, "host", "MINIMAIL_HOST", "", "DEST|[user@]host, or a Host of ssh_config; required"),
		list(reach, "forward", "MINIMAIL_FORWARD", "SPEC|[BIND:]PORT:TUNNEL:FARHOST:FARPORT; repeatable", "25:1025:localhost:25"),
		text(reach, "protocol", "MINIMAIL_PROTOCOL", "auto", "NAME|smtp, tcp; auto: smtp if FARPORT is a mail port"),
		text(reach, "ssh", "MINIMAIL_SSH", "ssh", "PROGRAM|the ssh program"),
		text(reach, "ssh-config", "MINIMAIL_SSH_CONFIG", "", "FILE|ssh's -F file"),
		list(reach, "ssh-option", "MINIMAIL_SSH_OPTION", "K=V|one more -o for ssh; repeatable"),

		text(long, "idle", "MINIMAIL_IDLE", "10s", "TIME|close the tunnel so long after the last client"),
		text(long, "jitter", "MINIMAIL_JITTER", "25s", "TIME|plus a random time from 0 to this"),
		text(long, "wait", "MINIMAIL_WAIT", "25s", "TIME|hold a client so long until it can be served"),
		text(long, "drain", "MINIMAIL_DRAIN", "10s", "TIME|when stopped, let clients finish for so long"),
		text(long, "max-clients", "MINIMAIL_MAX_CLIENTS", "256", "N|serve so many at a time; the others wait"),

		text(where, "user", "MINIMAIL_USER SUDO_USER", "", "NAME|whom to become once the ports are bound", "u"),
		text(where, "pid-file", "MINIMAIL_PID_FILE", "", "FILE|root: /run/minimail.pid", "p"),
		text(where, "log-file", "MINIMAIL_LOG_FILE", "", "FILE|root: /var/log/minimail.log", "l"),
		text(where, "log-format", "MINIMAIL_LOG_FORMAT", "text", "FMT|text or json"),
		text(where, "settings", "MINIMAIL_SETTINGS", defaultSettings, "FILE|file of NAME=value lines"),
		flag(where, "foreground", "", "stay in the foreground, log to stderr", "X"),
		flag(where, "verbose", "MINIMAIL_VERBOSE", "log more", "v"),
		flag(where, "json", "", "check, status: answer in JSON"),
		flag(where, "nagios", "", "check: answer in a line, as a Nagios plugin"),
	}
}

// helpTemplate fits a terminal of 80 by 40.
const helpTemplate = `minimail: {{.Usage}}
usage: minimail [OPTIONS] [{{range $i, $c := .VisibleCommands}}{{if $i}} | {{end}}{{$c.Name}}{{end}}]{{range .VisibleCommands}}
  {{printf "%-9s" .Name}} {{.Usage}}{{end}}
{{$group := ""}}{{range .VisibleFlags}}{{if ne .GetCategory $group}}{{$group = .GetCategory}}
{{$group}}
{{end}}  {{.}}
{{end}}
In the environment and in the settings file, --host is MINIMAIL_HOST, and so on.
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
	if _, list := f.(*cli.StringSliceFlag); list {
		// its default is told at the end
	} else if v := doc.GetValue(); v != "" && doc.TakesValue() {
		usage += " (" + strings.Trim(v, `"`) + ")"
	}
	return fmt.Sprintf("%-23s %s", names+" "+what, usage)
}

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
