package openssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// askTimeout is for programs that only answer a question: ssh -G may run what
// ssh_config's Match exec says.
const askTimeout = 10 * time.Second

// heldOpen is how long a program's output is waited for that has ended: what it
// has started may have its output, too.
const heldOpen = 3 * time.Second

// Ask runs a program as ssh will be run, in an environment and with nothing to
// read, and returns what it prints; with an error, what it says on stderr. After
// ten seconds the error is context.DeadlineExceeded.
func Ask(ctx context.Context, env []string, program string, args ...string) (out, words string, err error) {
	return askWith(ctx, nil, env, program, args...)
}

// askWith has something to read for it.
func askWith(ctx context.Context, stdin io.Reader, env []string, program string, args ...string) (out, words string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, stdin, &stdout, &stderr
	cmd.WaitDelay = heldOpen
	switch err = cmd.Run(); {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, exec.ErrWaitDelay): // it has said all
		err = nil
	}
	return stdout.String(), strings.TrimSpace(stderr.String()), err
}

// A Config is the answer of ssh -G: values by keyword in lower case.
type Config map[string][]string

// ParseConfig reads that answer.
func ParseConfig(out string) Config {
	all := Config{}
	for l := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), " ")
		all[k] = append(all[k], v)
	}
	return all
}

// One is the value of a keyword that has one; "" if that is none.
func (c Config) One(keyword string) string {
	if v := c[keyword]; len(v) > 0 && v[0] != "none" {
		return v[0]
	}
	return ""
}

// Overridden are those of the user's settings that minimail has other plans
// for, because they would take the tunnel out of its hands, or open it.
func (c Config) Overridden() []string {
	var all []string
	for _, k := range []string{"ControlMaster", "ControlPersist", "GatewayPorts", "ForkAfterAuthentication", "PermitLocalCommand", "RequestTTY", "ClearAllForwardings"} {
		v := c.One(strings.ToLower(k))
		if !slices.Contains([]string{"", "no", "false"}, v) && (k != "RequestTTY" || v != "auto") {
			all = append(all, k+" "+v)
		}
	}
	return all
}

// Jumps reports whether another ssh is the way to the host.
func (c Config) Jumps() bool {
	if c.One("proxyjump") != "" {
		return true
	}
	program, _, _ := strings.Cut(strings.TrimPrefix(c.One("proxycommand"), "exec "), " ")
	return filepath.Base(program) == "ssh"
}

var unreadable = regexp.MustCompile("^Bad owner or permissions on (.+)$|^Can't open user config file (.+): Permission denied$")

// Unreadable is the file of ssh_config that ssh may not read, or does not trust
// (read_config_file_depth in readconf.c), if that is why it does not like its
// settings, or "".
func Unreadable(why error) string {
	if m := unreadable.FindStringSubmatch(why.Error()); m != nil {
		return m[1] + m[2]
	}
	return ""
}
