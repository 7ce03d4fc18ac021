// minimail opens an ssh tunnel for mail when a mail client comes, and closes
// it when the last one has left.
//
// A client's byte travels like this: a listener of forward accepts the client
// (internal/serve, forward.Forwarder.Serve); the dial function asks tunnel for a
// connection to the near end, which launches ssh if there is none
// (tunnel.Tunnel.Dial, Run); forward copies both ways over a bridge of the
// client's own until both sides have ended; closing the connection gives the
// lease on the tunnel back.
package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"slices"

	"minimail/internal/check"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/serve"
	"minimail/internal/settings"
)

// version is set by the linker for releases.
var version = ""

func main() { os.Exit(run(os.Args[1:])) }

// words are what can be asked for, in the order of the help.
var words = []settings.Word{
	{Name: "start", Usage: "start the daemon (the default)", Do: func(s settings.Settings) error { return daemon.Start(s, serve.Run) }},
	{Name: "stop", Usage: "stop it; clients at work may finish", Do: daemon.Stop},
	{Name: "restart", Usage: "start it anew; if it runs, without refusing anybody", Do: func(s settings.Settings) error { return daemon.Restart(s, serve.Run) }},
	{Name: "reload", Usage: "the same for one that runs: new settings", Do: func(s settings.Settings) error { return daemon.Reload(s, serve.Run) }},
	{Name: "status", Usage: "say whether it runs; exit 0: yes, 1: it died, 3: no", Do: daemon.Status},
	{Name: "check", Usage: "try all that mail needs; exit 0: well, 1: warnings, 2: not", Do: check.Run},
	{Name: "settings", Do: func(s settings.Settings) error { return s.Print(os.Stdout) }},
}

// run is the whole program but the exit. It returns the exit status.
func run(args []string) int {
	s, err := settings.Parse(args, words)
	switch {
	case err != nil && s.Word == "settings": // scripts go by what is right all the same
		_ = s.Print(os.Stdout)
	case err != nil:
		if !s.Help && (s.Word == "" || s.Word == "start") {
			err = serve.Apologise(s, err)
		}
	case s.Help:
		err = settings.Help(os.Stdout, words, versionString())
	case s.Version:
		_, err = fmt.Println("minimail", versionString())
	default:
		err = do(s)
	}
	if err != nil {
		complain(args, err)
	}
	return status(args, err)
}

func do(s settings.Settings) error {
	if !daemon.Reborn() { // whoever started the daemon has said them
		for _, w := range s.Warnings {
			fmt.Fprintln(os.Stderr, "minimail: warning:", fail.Printable(w))
		}
	}
	i := slices.IndexFunc(words, func(w settings.Word) bool { return w.Name == s.Word })
	return fail.Rehint(words[i].Do(s), s.Given().Again)
}

// The options that say how to answer, as a line that cannot be read may have
// them.
var (
	forNagios = regexp.MustCompile(`^--?nagios(=1|=[tT].*)?$`)
	inJSON    = regexp.MustCompile(`^--?json(=1|=[tT].*)?$`)
)

// complain says why the program ends to whoever reads it: a plugin's caller and
// a program read stdout.
func complain(args []string, err error) {
	asked := slices.ContainsFunc(args, inJSON.MatchString) && (slices.Contains(args, "check") || slices.Contains(args, "status"))
	switch {
	case err.Error() == "": // all has been said
	case slices.ContainsFunc(args, forNagios.MatchString):
		fmt.Println("MINIMAIL UNKNOWN -", fail.Printable(err.Error()))
	case asked && fail.JSON(os.Stdout, map[string]string{"status": "unknown", "error": err.Error(), "hint": fail.HintOf(err)}, "") == nil:
	default:
		fail.Print(os.Stderr, err)
	}
}

func status(args []string, err error) int {
	if err != nil && err.Error() != "" && slices.ContainsFunc(args, forNagios.MatchString) {
		return fail.NagiosUnknown
	}
	return fail.Status(err)
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
