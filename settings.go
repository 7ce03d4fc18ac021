package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"minimail/forward"
)

// settings is what the user wants, checked and complete.
type settings struct {
	inv *invocation

	host       string
	forwards   []forward.Spec
	ssh        string
	sshConfig  string
	sshOptions []string

	idle, jitter, wait, drain time.Duration
	maxClients                int

	user             string
	pidFile, logFile string
	pidFileNamed     bool // by the user
	json             bool
	foreground       bool
	onTerminal       bool // stderr is one
	verbose          bool
	asJSON, nagios   bool // how check answers
}

// A reader takes options out of cli, checks them, and keeps the first error.
type reader struct {
	c   *cli.Context
	inv *invocation
	err error
}

// settings checks what the command line, the environment and the settings file
// say. Only those who start a daemon need all of it to be right.
func (inv *invocation) settings(c *cli.Context) (settings, error) {
	r := &reader{c: c, inv: inv}
	s := settings{
		inv:          inv,
		host:         c.String("host"),
		ssh:          r.program("ssh"),
		sshConfig:    r.path("ssh-config"),
		sshOptions:   r.sshOptions("ssh-option"),
		forwards:     r.forwards("forward", r.oneOf("protocol", "auto", "smtp", "tcp")),
		idle:         r.duration("idle", 0),
		jitter:       r.duration("jitter", 0),
		wait:         r.duration("wait", time.Millisecond),
		drain:        r.duration("drain", 0),
		maxClients:   r.count("max-clients"),
		user:         c.String("user"),
		pidFile:      r.path("pid-file"),
		pidFileNamed: c.String("pid-file") != "",
		logFile:      r.path("log-file"),
		json:         r.oneOf("log-format", "text", "json") == "json",
		foreground:   c.Bool("foreground"),
		onTerminal:   term.IsTerminal(2),
		verbose:      c.Bool("verbose"),
		asJSON:       c.Bool("json"),
		nagios:       c.Bool("nagios"),
	}
	if inv.word == "stop" || inv.word == "status" {
		r.err = nil
		r.path("pid-file") // that is what they are about
	} else {
		r.host(s.host)
	}
	// Only a daemon has a log file.
	logs := !s.foreground && (inv.word == "start" || inv.word == "restart")
	if err := s.defaultFiles(logs); err != nil && r.err == nil {
		r.err = err
	}
	return s, r.err
}

// bad notes that an option's value is unusable.
func (r *reader) bad(name, value, expected string) {
	if r.err != nil {
		return
	}
	for _, f := range flags() {
		if f.Names()[0] == name {
			r.err = fmt.Errorf("%s %q: expected %s", r.inv.where(f), value, expected)
		}
	}
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
	for _, known := range values {
		if v == known {
			return v
		}
	}
	r.bad(name, v, strings.Join(values, " or "))
	return v
}

// path makes a file name absolute, because a daemon works in /.
func (r *reader) path(name string) string {
	v := r.c.String(name)
	if v == "" {
		return ""
	}
	abs, err := filepath.Abs(v)
	if err != nil {
		r.bad(name, v, "a file name: "+err.Error())
	}
	return abs
}

// program is a path if it has a slash, and looked up in PATH if it has none.
func (r *reader) program(name string) string {
	if v := r.c.String(name); !strings.Contains(v, "/") {
		return v
	}
	return r.path(name)
}

// nextOption is where the next K=V begins in a setting that holds several. A
// value may have spaces in it, as in ProxyCommand=ssh -W %h:%p jump.
var nextOption = regexp.MustCompile(`\s+([A-Za-z]+=)`)

func splitSSHOptions(v string) []string {
	return strings.Split(nextOption.ReplaceAllString(strings.TrimSpace(v), "\n$1"), "\n")
}

func (r *reader) sshOptions(name string) []string {
	var all []string
	for _, v := range r.c.StringSlice(name) {
		kvs := []string{v}
		if !r.inv.given[name] {
			kvs = splitSSHOptions(v)
		}
		for _, kv := range kvs {
			kv = strings.TrimSpace(kv)
			if k, _, ok := strings.Cut(kv, "="); !ok || strings.ContainsAny(k, " \t") || k == "" {
				r.bad(name, kv, "KEYWORD=VALUE, as in ssh_config(5)")
			}
			all = append(all, kv)
		}
	}
	return all
}

func (r *reader) forwards(name, protocol string) []forward.Spec {
	specs, bad, err := forward.ParseSpecs(strings.Fields(strings.Join(r.c.StringSlice(name), " ")))
	if err != nil {
		r.bad(name, bad, err.Error())
		r.err = hint(r.err, "for example 25:1025:localhost:25, which is PORT:TUNNEL:FARHOST:FARPORT")
	}
	forward.Speak(specs, protocol)
	return specs
}

// host refuses what ssh would take for something else than a destination.
func (r *reader) host(host string) {
	switch {
	case r.err != nil:
	case host == "":
		r.err = hint(errors.New("no host to log in to"), "--host [user@]host, or MINIMAIL_HOST=[user@]host in %s", r.settingsFile())
	case strings.HasPrefix(host, "-"):
		r.bad("host", host, `[user@]host, not an option: a host cannot begin with "-"`)
	case strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.bad("host", host, "[user@]host without spaces")
	case strings.HasPrefix(host, "@") || strings.HasSuffix(host, "@"):
		r.bad("host", host, `[user@]host: something is missing beside the "@"`)
	}
}

// settingsFile is where to put a setting: the file that was read, if it is one.
func (r *reader) settingsFile() string {
	file := r.c.String("settings")
	if fi, err := os.Stat(file); err == nil && !fi.Mode().IsRegular() {
		return defaultSettings
	}
	return file
}

// defaultFiles fills in where the pid file and the log are if nobody has said:
// root's places, or an ordinary user's (XDG Base Directory Specification).
func (s *settings) defaultFiles(logs bool) error {
	if s.pidFile != "" && (s.logFile != "" || !logs) {
		return nil
	}
	pid, log := filepath.Join(runDir(), "minimail.pid"), "/var/log/minimail.log"
	if os.Geteuid() != 0 {
		home, err := os.UserHomeDir()
		if err == nil && !filepath.IsAbs(home) {
			err = fmt.Errorf("$HOME, %q, does not begin with /", home)
		}
		state := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) { // which the specification has us ignore
			if err != nil {
				return hint(fmt.Errorf("no place for the pid file and the log: %w", err), "--pid-file FILE --log-file FILE")
			}
			state = filepath.Join(home, ".local", "state")
		}
		log = filepath.Join(state, "minimail", "minimail.log")
		pid = filepath.Join(filepath.Dir(log), "minimail.pid")
		if run := userRunDir(); run != "" {
			pid = filepath.Join(run, "minimail.pid")
		}
	}
	if s.pidFile == "" {
		s.pidFile = pid
	}
	if s.logFile == "" {
		s.logFile = log
	}
	return nil
}

func runDir() string {
	if isDir("/run") {
		return "/run"
	}
	return "/var/run"
}

func userRunDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir
	}
	if dir := fmt.Sprintf("/run/user/%d", os.Getuid()); isDir(dir) {
		return dir
	}
	return ""
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}
