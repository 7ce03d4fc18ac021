package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/tunnel/openssh"
)

// checkSSH looks for the program.
func (c *checkup) checkSSH(ctx context.Context) {
	path, err := exec.LookPath(c.SSH)
	if err != nil {
		c.add("ssh", broken, fmt.Sprintf("cannot run ssh: %v", err), openssh.Cure(fail.Quote(c.SSH), err))
		return
	}
	version, err := openssh.AskVersion(ctx, openssh.Env(), path)
	c.files.Program = path
	c.client = &openssh.Client{Command: openssh.Command(c.Settings.Command()), Version: version, Env: openssh.Env()}
	switch {
	case version != openssh.Version{}:
		c.add("ssh", well, fmt.Sprintf("%s, OpenSSH %d.%d", path, version.Major, version.Minor))
	case errors.As(err, new(*exec.ExitError)): // a wrapper's, which may log in all the same
		c.add("ssh", doubtful, fmt.Sprintf("%s -V: %v", path, err), openssh.Cure(fail.Quote(path), err))
	case err != nil:
		c.add("ssh", broken, fmt.Sprintf("%s -V: %v", path, err), openssh.Cure(fail.Quote(path), err))
	default:
		c.add("ssh", doubtful, path+" does not say which OpenSSH it is", "minimail check --ssh /usr/bin/ssh")
	}
}

// checkConfig tells what ssh makes of ssh_config and our options. If ssh does
// not like them, a login is not tried; if it takes its time, it is.
func (c *checkup) checkConfig(ctx context.Context) {
	if c.client == nil {
		return
	}
	theirs, err := c.client.Ask(ctx)
	if err == nil {
		c.files.Config, err = c.client.InForce(ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c.add("ssh -G", doubtful, "ssh has not said what it makes of its settings after 10 s: does a Match exec take long? Each login waits for it as well",
			c.sshByHand("-G")+" # shows how long it takes")
	case errors.As(err, new(*exec.ExitError)):
		c.add("ssh -G", doubtful, fmt.Sprintf("ssh has not said what it makes of its settings: %v", err), c.sshByHand("-G")+" # shows whether it does")
	case errors.As(err, new(syscall.Errno)):
		c.client = nil
		c.add("ssh -G", broken, fmt.Sprintf("cannot run ssh: %v", err), openssh.Cure(fail.Quote(c.SSH), err))
	case err != nil:
		c.client = nil
		_, fixes := openssh.BadSettings.Advice(c.where(ctx, openssh.Verdict{}))
		if file := openssh.Unreadable(err); file != "" {
			fixes = []string{fail.Quote("sudo", "chown", daemon.UserName(), file) + " && " + fail.Quote("sudo", "chmod", "600", file)}
		}
		c.add("ssh -G", broken, fmt.Sprintf("ssh does not like its settings: %v", err), fixes...)
	case c.files.FIFO() != "":
		c.add("ssh -G", broken, "ssh would wait at "+c.files.FIFO()+", which is no regular file", fail.Quote("ls", "-l", c.files.FIFO()))
		c.client, c.files.Config = nil, nil
	default:
		c.add("ssh -G", well, c.client.Summary(theirs, c.files.Config))
	}
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
	return c.byHand(openssh.Command(c.Settings.Command()).ByHand(options...)...)
}

// checkFiles is about the pid file and the log, if start would refuse them. It is
// asked as root, who can look everywhere.
func (c *checkup) checkFiles(who *user.User) {
	c.addFile(daemon.PidFileFits(c.PidFile, who), broken, c.PidFileNamed)
	log, v := c.LogFile, broken
	if log == "" { // a daemon's; in the foreground there is none
		log, v = settings.DefaultLog(), doubtful
	}
	if log != "" {
		c.addFile(daemon.LogFits(log, who), v, log != settings.DefaultLog())
	}
}

// addFile says what is wrong with a file. start makes the directories of the
// default places, which nobody has named.
func (c *checkup) addFile(err error, v verdict, named bool) {
	if err == nil || errors.Is(err, fs.ErrNotExist) && !named {
		return
	}
	c.add("files", v, err.Error(), fail.Fix(err))
}

// checkHome is about the user, his home and ~/.ssh, without which ssh may do.
func (c *checkup) checkHome() {
	me := fmt.Sprintf("%s, uid %d, home %s", daemon.UserName(), os.Getuid(), cmp.Or(c.files.Home, "unknown"))
	ssh := filepath.Join(c.files.Home, ".ssh")
	switch there := settings.IsDir(c.files.Home); {
	case !there && c.SSHConfig != "":
		c.add("user", well, me+" (not there; ssh reads "+c.SSHConfig+")")
		return
	case !there:
		c.add("user", doubtful, me+", which is not there: ssh finds neither key nor known_hosts in it",
			"minimail check --user NAME # of somebody with a home; or --ssh-config FILE that names all files")
		return
	}
	c.add("user", well, me)
	for _, name := range []string{c.files.Home, ssh, filepath.Join(ssh, "config")} {
		if settings.IsClosed(name) && (c.SSHConfig == "" || settings.IsDir(name)) {
			c.add("~/.ssh", doubtful, "ssh cannot look into "+name+", and does without",
				fail.Quote("sudo", "chown", c.files.User, name)+" && "+fail.Quote("sudo", "chmod", "u+rwX", name))
			return
		}
	}
	known := filepath.Join(ssh, "known_hosts")
	why, mend := daemon.IsShared(known, os.Getuid())
	info, err := os.Stat(known)
	switch {
	case why != "":
		c.add("~/.ssh", doubtful, why, mend)
	case err == nil && info.Mode().Perm()&0o022 != 0:
		c.add("~/.ssh", doubtful, fmt.Sprintf("others can write to %s (mode %04o)", known, info.Mode().Perm()), fail.Quote("chmod", "600", known))
	case !settings.IsDir(ssh) && c.SSHConfig == "":
		c.add("~/.ssh", doubtful, ssh+" is not there", c.byHand("mkdir", "-m", "700", ssh))
	default:
		c.add("~/.ssh", well, "nobody else can change it")
	}
}
