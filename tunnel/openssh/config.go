package openssh

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// askTimeout is for programs that only answer a question: ssh -G may run what
// ssh_config's Match exec says.
const askTimeout = 10 * time.Second

// Ask runs a program as ssh will be run, with nothing to read, and returns what
// it prints; with an error, what it says on stderr. After ten seconds the error
// is context.DeadlineExceeded.
func Ask(ctx context.Context, program string, args ...string) (out, words string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = Env(), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err = cmd.Run(); ctx.Err() != nil {
		err = ctx.Err()
	}
	return stdout.String(), strings.TrimSpace(stderr.String()), err
}

// Ask asks ssh what it makes of ssh_config and of our options. An error is in its
// own words: it will not run with such settings. Match exec may take its time,
// ten seconds at most.
func (c Command) Ask(ctx context.Context, version Version) (Config, error) {
	return c.ask(ctx, c.arguments(version))
}

// AskPlainly asks what ssh would make of them by hand.
func (c Command) AskPlainly(ctx context.Context) (Config, error) {
	return c.ask(ctx, c.plainly())
}

func (c Command) ask(ctx context.Context, args []string) (Config, error) {
	out, words, err := Ask(ctx, c.Program, append([]string{"-G"}, args...)...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited() && words != "":
		return nil, errors.New(complaint(words))
	case err != nil:
		return nil, err
	}
	return ParseConfig(out), nil
}

// complaint is the last line, or the one before if that only counts them
// (readconf.c, read_config_file_depth).
func complaint(words string) string {
	lines := strings.Split(words, "\n")
	last := len(lines) - 1
	if last > 0 && strings.Contains(lines[last], ": terminating, ") {
		last--
	}
	return strings.TrimSpace(lines[last])
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
	for _, k := range []string{"ControlMaster", "ControlPersist", "GatewayPorts", "ForkAfterAuthentication", "PermitLocalCommand", "RequestTTY"} {
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
