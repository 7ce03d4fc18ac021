// Package check says what is wrong with a set-up, and what fixes it.
package check

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// A verdict is what check says of a point. The greatest one is the exit status.
type verdict int

const (
	well verdict = iota
	doubtful
	broken
)

// A point is one thing that has been looked at.
type point struct {
	Name    string   `json:"point"`
	Verdict verdict  `json:"status"`
	Text    string   `json:"text"`
	Fixes   []string `json:"fix,omitempty"` // commands or lines, one of which fixes it
}

// A checkup is one run of check.
type checkup struct {
	settings.Settings
	out    form
	points []point
	worst  verdict // of all points

	stopped   func() error // whether a signal has come: what is seen then is not so; nil: none comes
	running   peer.Minimail
	listeners []peer.Listener
	blind     error      // why listeners could not be read
	who       *user.User // whom we became, if we did

	client  *openssh.Client // nil if ssh is not there, or refuses its settings
	files   openssh.Files   // of our ssh, as it will have them; its Config is nil if that is not known
	login   login
	badKeys []point // keys that cannot be used without being asked
}

// Run is the word: it tries all that mail needs, as minimail's user, and changes nothing.
func Run(s settings.Settings) error {
	daemon.KeepToOurselves()
	c := &checkup{Settings: s, out: newForm(s, os.Stdout)}
	who, err := daemon.ToBecome(s)
	if fail.Status(err) == fail.NeedsRoot && !s.JSON && !s.Nagios { // people may be asked for a password
		if err = daemon.WithSudo(s, err); err == nil {
			return nil
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c.stopped = ctx.Err
	c.checkSettings()
	if err == nil {
		c.lookAround()
		c.checkFiles(who)
		err = c.become(who)
	}
	if err != nil { // nothing is tried as anybody else
		c.out.unknown = fail.Status(err) == fail.NeedsRoot || fail.Status(err) == fail.Usage
		c.add("user", broken, err.Error(), fail.Fix(err))
		return c.out.end(c)
	}
	c.checkSSH(ctx)
	c.checkHome()
	c.checkConfig(ctx)
	c.tryLogin(ctx)
	c.checkKeys(ctx)
	c.checkHostKey(ctx)
	c.checkPorts()
	c.checkLogin(ctx)
	c.checkFarEnds()
	c.checkLimit()
	if ctx.Err() != nil {
		c.stopped, c.out.unknown = nil, true
		c.add("check", broken, "interrupted")
	}
	return c.out.end(c)
}

// add notes a point, and prints it if people are watching.
func (c *checkup) add(name string, v verdict, text string, fixes ...string) {
	switch {
	case c.stopped != nil && c.stopped() != nil:
		return // that a program of ours was ended is no fault of the user's
	case v == well:
		fixes = nil
	}
	p := point{name, v, text, c.Given().Again(fixes)}
	c.points, c.worst = append(c.points, p), max(c.worst, v)
	c.out.point(p)
}

// lookAround sees what only root can: who listens on our ports, and whether minimail
// runs, whose pid file may be in a place that its user cannot enter.
func (c *checkup) lookAround() {
	var ports []int
	pidFile := daemon.FindPidFile(c.Settings)
	if _, pid, running, err := daemon.Held(pidFile); err == nil && running {
		c.running = peer.Minimail{PID: pid, Listening: daemon.Listening(pidFile)}
	}
	for _, f := range c.Forwards {
		ports = append(ports, f.Port, f.NearPort())
	}
	c.listeners, c.blind = peer.ListenersAt(ports)
}

// become drops root, if there is any to drop. Home is where ssh looks for ~: the
// user's in passwd(5), whatever $HOME says (misc.c, tilde_expand).
func (c *checkup) become(who *user.User) error {
	if c.who = who; who != nil {
		if err := privdrop.To(who.Username); err != nil {
			return err
		}
	}
	c.files.User, c.files.Host = daemon.UserName(), c.Host
	if u, err := privdrop.Lookup(strconv.Itoa(os.Getuid())); err == nil {
		c.files.Home = u.HomeDir
	}
	return nil
}

// checkSettings says where the settings come from; wrong ones have been refused.
func (c *checkup) checkSettings() {
	read := c.File() + " is not there"
	if _, err := os.Stat(c.File()); err == nil {
		read = c.File() + " is read"
	}
	c.add("settings", well, read+"; not defaults: "+strings.Join(c.Changed(), ", "))
}

// checkLimit looks whether as many clients as are wanted can be served.
func (c *checkup) checkLimit() {
	var limit syscall.Rlimit // which would be too small if it could not be had
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	n := forward.Affordable(c.MaxClients, uint64(limit.Max))
	if n == c.MaxClients {
		c.add("limits", well, fmt.Sprintf("open files: enough for %d clients at a time", n))
	} else {
		c.add("limits", doubtful, fmt.Sprintf("%d open files are enough for %d clients at a time, not for %d", limit.Max, n, c.MaxClients),
			fmt.Sprintf("ulimit -Hn %d # as root, before minimail starts; systemd: LimitNOFILE=; or --max-clients %d", forward.FilesFor(c.MaxClients), n))
	}
}
