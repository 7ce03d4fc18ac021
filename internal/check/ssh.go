package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/tunnel/openssh"
)

// checkSSH looks for the program.
func (c *checkup) checkSSH(ctx context.Context) {
	path, err := exec.LookPath(c.SSH)
	if err != nil {
		c.add("ssh", broken, fmt.Sprintf("cannot run ssh: %v", err), openssh.Cure(fail.Quote(c.SSH), err))
		return
	}
	c.version, err = openssh.AskVersion(ctx, openssh.Env(), path)
	c.program = path
	switch {
	case err != nil && c.version == openssh.Version{}:
		c.add("ssh", broken, fmt.Sprintf("%s -V: %v", path, err), openssh.Cure(fail.Quote(path), err))
	case c.version == openssh.Version{}:
		c.add("ssh", doubtful, path+" does not say which OpenSSH it is", "--ssh /usr/bin/ssh")
	default:
		c.add("ssh", well, fmt.Sprintf("%s, OpenSSH %d.%d", path, c.version.Major, c.version.Minor))
	}
}

// checkConfig tells what ssh makes of ssh_config and our options. If ssh does
// not like them, a login is not tried; if it takes its time, it is.
func (c *checkup) checkConfig(ctx context.Context) {
	if c.program == "" {
		return
	}
	c.client = &openssh.Client{Command: openssh.Command(c.Settings.Command()), Version: c.version, Env: openssh.Env()}
	theirs, err := c.client.Ask(ctx)
	if err == nil {
		c.config, err = c.client.InForce(ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c.add("ssh -G", doubtful, "ssh has not said what it makes of its settings after 10 s: does a Match exec take long? Each login waits for it as well",
			c.sshByHand("-G")+" # shows how long it takes")
		return
	case err != nil:
		c.refused = true
		fix := c.sshByHand("-G") + " # tells the line of ssh_config, or the --ssh-option"
		if file, ok := strings.CutPrefix(err.Error(), "Bad owner or permissions on "); ok {
			fix = fail.Quote("sudo", "chown", daemon.UserName(), file) + " && " + fail.Quote("chmod", "600", file)
		}
		c.add("ssh -G", broken, fmt.Sprintf("ssh does not like its settings: %v", err), fix)
		return
	}
	text := fmt.Sprintf("%s is %s@%s, port %s", c.Host, c.config.One("user"), c.config.One("hostname"), c.config.One("port"))
	for _, k := range []string{"ProxyJump", "ProxyCommand"} {
		if v := c.config.One(strings.ToLower(k)); v != "" {
			text += "; " + k + " " + v
		}
	}
	if o := theirs.Overridden(); len(o) > 0 {
		text += "; overridden: " + strings.Join(o, ", ")
	}
	if o := c.client.Ours(); len(o) > 0 {
		text += "; ours: " + strings.Join(o, ", ")
	}
	c.add("ssh -G", well, text)
}

// plainly is what somebody would give to ssh by hand.
func (c *checkup) plainly() []string {
	var args []string
	if c.SSHConfig != "" {
		args = append(args, "-F", c.SSHConfig)
	}
	for _, o := range c.SSHOptions {
		args = append(args, "-o", o)
	}
	return append(args, "--", c.Host)
}

// byHand is a command line for the user whom minimail becomes.
func (c *checkup) byHand(words ...string) string {
	if c.who != nil {
		words = append([]string{"sudo", "-H", "-u", c.who.Username}, words...)
	}
	return fail.Quote(words...)
}

// sshByHand is the login, with options in front.
func (c *checkup) sshByHand(options ...string) string {
	return c.byHand(slices.Concat([]string{c.SSH}, options, c.plainly())...)
}

// file expands a name in ssh_config: ~ and the tokens that stand for what we
// know (ssh_config(5), TOKENS).
func (c *checkup) file(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(c.home, rest)
	}
	return strings.NewReplacer("%%", "%", "%d", c.home, "%u", daemon.UserName(), "%r", c.config.One("user"),
		"%h", c.config.One("hostname"), "%p", c.config.One("port"), "%n", c.Host).Replace(name)
}

// lastLine is what a program that failed said last.
func lastLine(words string) string {
	lines := strings.Split(strings.TrimSpace(words), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// beside is a program of the same OpenSSH.
func (c *checkup) beside(name string) string {
	if path := filepath.Join(filepath.Dir(c.program), name); c.program != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return name
}
