package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"minimail/forward"
	"minimail/internal/fail"
)

// A reader takes options out of cli, checks them, and keeps the first error.
type reader struct {
	c    *cli.Context
	call *call
	err  error
}

// bad notes that an option's value is unusable, and what may help.
func (r *reader) bad(name, value, expected string, hint ...string) {
	if r.err != nil {
		return
	}
	i := slices.IndexFunc(options(), func(o option) bool { return o.name() == name })
	r.err = fmt.Errorf("%s %q: expected %s", r.call.where(options()[i]), value, expected)
	if len(hint) > 0 {
		r.err = fail.Hint(r.err, "%s", hint[0])
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
	case err != nil && !anyTime.MatchString(s):
		r.bad(name, v, "a time such as 30, 90s or 1m30s")
	case d < 0:
		r.bad(name, v, "a time that is not negative")
	case err != nil || d > maxDuration:
		r.bad(name, v, "a time of a year at most")
	case d < least:
		r.bad(name, v, "a time above zero")
	}
	return d
}

// anyTime is one that time.ParseDuration can read, unless it is too long.
var anyTime = regexp.MustCompile(`^([0-9]+(ns|us|µs|ms|s|m|h))+$`)

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
	case name == "pid-file" && digits.MatchString(v):
		r.bad(name, v, "a file, as ./"+v+": ssh's port is another option", fmt.Sprintf(sshPort, v))
	case v == "-" && name == "log-file":
		r.bad(name, v, "a file, as ./-: minimail -X logs to stderr")
	case v == "-":
		r.bad(name, v, "a file, as ./-")
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

// noFile is what ssh_config(5) and ssh(1) call none, as /dev/null is.
const noFile = "none"

// file is the path of one that ssh is to read.
func (r *reader) file(name string) string {
	if r.c.String(name) == noFile {
		return os.DevNull
	}
	v := r.path(name) // not opened: who is root here could be made to open another file
	if !isNull(v) && (passing.MatchString(v) || errors.Is(look(v), ErrIrregular)) {
		r.bad(name, v, "a regular file: each ssh reads it anew")
	}
	return v
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
	for _, kv := range r.call.list(name) {
		kv = strings.TrimSpace(kv)
		k, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok || k == "" || strings.ContainsAny(k, " \t"):
			r.bad(name, kv, "KEYWORD=VALUE, as in ssh_config(5)")
		case !r.call.given[name] && severalOptions(kv): // typed, each is one
			r.bad(name, kv, "one KEYWORD=VALUE: each has a line of its own")
		}
		all = append(all, kv)
	}
	return all
}

func (r *reader) forwards(name, protocol string) []forward.Spec {
	specs, bad, err := forward.ParseSpecs(strings.Fields(strings.Join(r.call.list(name), " ")))
	if err != nil {
		r.bad(name, bad, err.Error(), "for example 25:1025:localhost:25, which is PORT:TUNNEL:FARHOST:FARPORT")
	}
	for _, f := range specs {
		if port := f.NearPort(); port > 0 && port < firstPort() {
			r.bad(name, f.Near, fmt.Sprintf("TUNNEL to be a port from %d on: ssh, which listens there, has not root's rights", firstPort()))
		}
	}
	forward.Speak(specs, protocol)
	return specs
}

// firstPort is the first that anybody may listen on (ip(7),
// ip_unprivileged_port_start).
func firstPort() int {
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return n
		}
	}
	return 1024
}

// host refuses what ssh would take for something else than a destination.
func (r *reader) host(host string) {
	switch {
	case r.err != nil:
	case host == "" && slices.Contains([]string{"settings", "restart", "reload"}, r.call.word):
		// settings only tells; the others may know it from the one that runs
	case host == "":
		r.err = Settings{call: r.call}.NeedHost()
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
