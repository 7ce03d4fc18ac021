// Package settings gets from a command line, the environment and the settings
// file to checked values, each of which knows where it comes from.
package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
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
	app(words, "") // cli's switches
	said, err := c.take(args)
	s := Settings{call: c, JSON: c.given["json"], Nagios: c.given["nagios"], Help: c.given["help"], Version: c.given["version"]}
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
	s.SSHConfig = r.path("ssh-config")
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
	if s.Word == "start" || s.Word == "restart" {
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

// A reader takes options out of cli, checks them, and keeps the first error.
type reader struct {
	c    *cli.Context
	call *call
	err  error
}

// bad notes that an option's value is unusable.
func (r *reader) bad(name, value, expected string) {
	if r.err != nil {
		return
	}
	i := slices.IndexFunc(options(), func(o option) bool { return o.name() == name })
	r.err = fmt.Errorf("%s %q: expected %s", r.call.where(options()[i]), value, expected)
}

var digits = regexp.MustCompile(`^-?[0-9]+$`)

// duration reads a time; a bare number is seconds.
func (r *reader) duration(name string, least time.Duration) time.Duration {
	v := strings.TrimSpace(r.c.String(name))
	s := v
	if digits.MatchString(s) {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		r.bad(name, v, "a time such as 30, 90s or 1m30s")
	case d < 0:
		r.bad(name, v, "a time that is not negative")
	case d < least:
		r.bad(name, v, "a time above zero")
	case d > maxDuration:
		r.bad(name, v, "a time of a year at most")
	}
	return d
}

// maxDuration keeps sums of durations far from overflow.
const maxDuration = 365 * 24 * time.Hour

func (r *reader) count(name string) int {
	v := strings.TrimSpace(r.c.String(name))
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		r.bad(name, v, "a number above zero")
	}
	return n
}

func (r *reader) oneOf(name string, values ...string) string {
	v := r.c.String(name)
	if !slices.Contains(values, v) {
		r.bad(name, v, strings.Join(values, " or "))
	}
	return v
}

// path makes a file name absolute, because a daemon works in /. In the settings
// file it has to be: who reads it may be anywhere, and anybody.
func (r *reader) path(name string) string {
	v := r.c.String(name)
	switch {
	case v == "":
		return ""
	case strings.HasPrefix(v, "~"):
		r.bad(name, v, "the whole path: no shell is there to say whose home ~ is")
	case r.call.origins[name].line != "" && !filepath.IsAbs(v):
		r.bad(name, v, "a path that begins with /: the file is read from any directory")
	}
	abs, err := filepath.Abs(v)
	if err != nil {
		r.bad(name, v, "a file name: "+err.Error())
	}
	return abs
}

// program is a path if it has a slash, and looked up in PATH if it has none.
func (r *reader) program(name string) string {
	v := r.c.String(name)
	if v == "" {
		r.bad(name, v, "a program")
	}
	if !strings.Contains(v, "/") {
		return v
	}
	return r.path(name)
}

// wholeLine are the keywords whose value is a command, or may have "=" in it for
// other reasons (ssh_config(5)).
var wholeLine = regexp.MustCompile(`(?i)^(ProxyCommand|LocalCommand|RemoteCommand|KnownHostsCommand|SetEnv|Match)=`)

// another is where a second KEYWORD=VALUE seems to begin; common is one of ssh's
// behind such a command, unless it is an option of that: what was two options
// once must not become one unnoticed.
var (
	another = regexp.MustCompile(`\s[A-Za-z][A-Za-z0-9]*=`)
	common  = regexp.MustCompile(`(?i)(^|\s)(\S+)\s+(Port|User|HostName|IdentityFile|IdentitiesOnly|ProxyJump|ConnectTimeout|Compression|StrictHostKeyChecking|UserKnownHostsFile|ServerAliveInterval|ServerAliveCountMax)=`)
)

// severalOptions reports whether there seems to be more than one option in kv.
func severalOptions(kv string) bool {
	if !wholeLine.MatchString(kv) {
		return another.MatchString(kv)
	}
	m := common.FindStringSubmatch(kv)
	return m != nil && m[2] != "-o"
}

func (r *reader) sshOptions(name string) []string {
	var all []string
	for _, kv := range r.c.StringSlice(name) {
		kv = strings.TrimSpace(kv)
		k, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok || k == "" || strings.ContainsAny(k, " \t"):
			r.bad(name, kv, "KEYWORD=VALUE, as in ssh_config(5)")
		case severalOptions(kv):
			r.bad(name, kv, "one KEYWORD=VALUE: each takes an option, or a line of the settings file, of its own")
		}
		all = append(all, kv)
	}
	return all
}

func (r *reader) forwards(name, protocol string) []forward.Spec {
	specs, bad, err := forward.ParseSpecs(strings.Fields(strings.Join(r.c.StringSlice(name), " ")))
	if err != nil {
		r.bad(name, bad, err.Error())
		r.err = fail.Hint(r.err, "for example 25:1025:localhost:25, which is PORT:TUNNEL:FARHOST:FARPORT")
	}
	forward.Speak(specs, protocol)
	return specs
}

// host refuses what ssh would take for something else than a destination.
func (r *reader) host(host string) {
	switch {
	case r.err != nil:
	case host == "" && r.call.word == "settings": // which only tells
	case host == "":
		r.err = fail.Hint(errors.New("no host to log in to"), "--host [user@]host, or MINIMAIL_HOST=[user@]host in %s", Settings{call: r.call}.Editable())
	case strings.HasPrefix(host, "-"):
		r.bad("host", host, `[user@]host, not an option: a host cannot begin with "-"`)
	case strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.bad("host", host, "[user@]host without spaces")
	case strings.ContainsAny(host, "$`"):
		r.bad("host", host, "[user@]host as it is: no shell is there to expand it")
	case strings.HasPrefix(host, "@") || strings.HasSuffix(host, "@"):
		r.bad("host", host, `[user@]host: something is missing beside the "@"`)
	}
}
