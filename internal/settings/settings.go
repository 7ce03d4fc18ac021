// Package settings gets from a command line, the environment and the settings
// file to checked values, each of which knows where it comes from.
package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"minimail/forward"
	"minimail/internal/fail"
)

// Settings are what the user wants, checked and complete.
type Settings struct {
	Word          string   // what is to be done
	Names         []string // with the word settings: of which; none: of all
	Help, Version bool     // that is to be printed, and nothing to be done

	Host       string
	Forwards   []forward.Spec
	SSH        string // the program: a path, or a name to be found in PATH
	SSHConfig  string // ssh's -F; "": none is given
	SSHOptions []string

	Idle, Jitter, Wait, Drain time.Duration
	MaxClients                int

	User             string
	PidFile, LogFile string
	PidFileNamed     bool // by the user
	LogJSON          bool
	Foreground       bool
	OnTerminal       bool // stderr is one
	Verbose          bool
	JSON, Nagios     bool // how status and check answer

	// Warnings are what is to be said before anything is done.
	Warnings []string

	call *call
}

// Parse reads args, the environment and the settings file. It changes nothing.
// Only those who start a daemon need all settings to be right: for any other
// word, what is wrong with the file is a warning. With an error comes what is
// known all the same.
func Parse(args []string, words []Word) (Settings, error) {
	c, err := newCall()
	if err != nil {
		return Settings{}, usage(err)
	}
	c.words, c.environment = words, map[string]string{}
	for _, name := range names() {
		c.environment[name] = os.Getenv(name)
	}
	c.dir, _ = os.Getwd() // "" matters to relative names only, which then are refused
	said, err := c.take(args)
	s := Settings{call: c, JSON: c.on("json"), Nagios: c.on("nagios"), Help: c.on("help"), Version: c.on("version")}
	if err != nil || s.Help || s.Version {
		return s, usage(err)
	}
	if c.word, s.Names, err = theWord(said, words); err != nil {
		return s, usage(err)
	}
	s.Word = c.word
	if err := s.refuseWithoutEffect(); err != nil {
		return s, usage(err)
	}
	fileErr := c.readFile()
	err = s.fill()
	if !s.needsAll() {
		if fileErr != nil {
			s.Warnings = append(s.Warnings, fileErr.Error())
		}
		return s, usage(err)
	}
	if fileErr != nil {
		err = fileErr
	}
	return s, usage(err)
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return fail.Exit(err, fail.Usage)
}

// needsAll reports whether the word needs all settings to be right; the others
// are about a pid file only.
func (s *Settings) needsAll() bool { return s.Word != "stop" && s.Word != "status" }

// readFile adds the settings of the file and of the environment.
func (c *call) readFile() error {
	named := c.given["settings"]
	c.file = c.set.Lookup("settings").Value.String()
	if v := environment("MINIMAIL_SETTINGS"); !named && v != "" {
		named, c.file = true, v
	}
	if c.file == "" { // a shell's variable that is not set, say
		return errors.New(`--settings "": expected a file name: it is empty`)
	}
	entries, err := readFile(c.file, named)
	return orFirst(err, c.addSettings(entries))
}

// refuseWithoutEffect refuses what would change the form of an answer and does
// not, and warns of any other option that means nothing to the word.
func (s *Settings) refuseWithoutEffect() error {
	for _, o := range s.call.withoutEffect() {
		if name := o.name(); name == "json" || name == "nagios" {
			return fmt.Errorf("%s means nothing to %s: it is for %s", dashed(name), s.Word, strings.Join(o.words, " and "))
		}
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s means nothing to %s", dashed(o.name()), s.Word))
	}
	return nil
}

// fill takes the values out of cli and checks them.
func (s *Settings) fill() error {
	r := &reader{c: s.call.context(), call: s.call}
	s.Host = r.c.String("host")
	s.SSH = r.program("ssh")
	s.SSHConfig = r.file("ssh-config")
	s.SSHOptions = r.sshOptions("ssh-option")
	s.Forwards = r.forwards("forward", r.oneOf("protocol", "auto", "smtp", "tcp"))
	s.Idle = r.duration("idle", 0)
	s.Jitter = r.duration("jitter", 0)
	s.Wait = r.duration("wait", time.Millisecond)
	s.Drain = r.duration("drain", 0)
	s.MaxClients = r.count("max-clients")
	s.User = r.c.String("user")
	s.PidFile = r.path("pid-file")
	s.PidFileNamed = s.PidFile != ""
	s.LogFile = r.path("log-file")
	s.LogJSON = r.oneOf("log-format", "text", "json") == "json"
	s.Foreground = r.c.Bool("foreground")
	s.OnTerminal = term.IsTerminal(2)
	s.Verbose = r.c.Bool("verbose")
	if s.needsAll() {
		r.host(s.Host)
	} else {
		r.err = nil
		r.path("pid-file") // that is what they are about
	}
	switch {
	case s.Word == "check" && !s.Nagios, (s.Word == "start" || s.Word == "restart") && !s.Foreground: // there its log says it
		s.Warnings = append(s.Warnings, s.Exposed()...)
	}
	return orFirst(r.err, s.defaultPlaces())
}

// Exposed are warnings of forwards that other machines can reach.
func (s *Settings) Exposed() []string {
	var all []string
	for _, f := range s.Forwards {
		if f.Exposed() {
			all = append(all, fmt.Sprintf("anybody who reaches %s, port %d, can send mail through %s as you: an open relay",
				strings.Join(f.Binds, " or "), f.Port, s.Host))
		}
	}
	return all
}

// A Command is the ssh that makes the tunnel, with the fields of openssh.Command.
type Command struct {
	Program    string
	ConfigFile string
	Options    []string
	Host       string
	Forwards   []string
}

// Command is the ssh that s wants.
func (s Settings) Command() Command {
	return Command{s.SSH, s.SSHConfig, s.SSHOptions, s.Host, forward.Lines(s.Forwards)}
}
