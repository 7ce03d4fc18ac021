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
	"time"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// A verdict is what check says of a point. The greatest one is check's exit
// status.
type verdict int

const (
	well verdict = iota
	doubtful
	broken
)

// A point is one thing that has been looked at.
type point struct {
	name    string
	verdict verdict
	text    string
	fixes   []string // commands or lines, one of which fixes it
}

// A checkup is one run of check.
type checkup struct {
	settings.Settings
	out    form
	points []point
	began  time.Time

	stopped   func() error // whether a signal has come: what is seen then is not so; nil: none comes
	pid       int          // of the minimail that runs, or 0
	listeners []peer.Listener
	blind     error      // why listeners could not be read
	asRoot    bool       // we began as root
	who       *user.User // whom we became, if we did
	home      string

	program string // ssh's path; "" if there is none
	refused bool   // by ssh: its settings
	version openssh.Version
	client  *openssh.Client
	config  openssh.Config // as our ssh will have them; nil: not known
	login   login
	badKeys []key // that cannot be used without being asked
}

// Run is the word: it tries all that mail needs, as the user whom minimail
// becomes, and changes nothing.
func Run(s settings.Settings) error {
	daemon.KeepToOurselves()
	c := &checkup{Settings: s, out: newForm(s, os.Stdout), began: time.Now(), asRoot: os.Geteuid() == 0}
	who, err := daemon.ToBecome(s)
	if fail.Status(err) == fail.NeedsRoot && c.asksPeople() {
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
	if err != nil {
		c.checkNobody(err)
		return c.finish()
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
		c.stopped = nil
		c.out.unknown = true
		c.add(unfinished, broken, "interrupted")
	}
	return c.finish()
}

// unfinished is the point that tells that others are missing.
const unfinished = "check"

// asksPeople reports whether our answer is for people, who may be asked for
// sudo's password.
func (c *checkup) asksPeople() bool { return !c.JSON && !c.Nagios }

// add notes a point, and prints it if people are watching.
func (c *checkup) add(name string, v verdict, text string, fixes ...string) {
	if c.stopped != nil && c.stopped() != nil {
		return // that a program of ours was ended is no fault of the user's
	}
	p := point{name: name, verdict: v, text: text}
	switch {
	case v == well:
	case strings.Contains(strings.ToLower(text), "too many open files"): // ours, or ssh's
		p.fixes = []string{"ulimit -n 4096 # before minimail starts; systemd: LimitNOFILE=4096"}
	default:
		p.fixes = fixes
	}
	c.points = append(c.points, p)
	c.out.point(p)
}

// finish turns all points into the answer and the exit status.
func (c *checkup) finish() error { return c.out.end(c) }

// worst is the verdict of all points together.
func (c *checkup) worst() verdict {
	v := well
	for _, p := range c.points {
		v = max(v, p.verdict)
	}
	return v
}

// lookAround sees what only root can: who listens on our ports. Whether
// minimail runs is looked up here as well, as its pid file may be in a place
// that its user cannot enter.
func (c *checkup) lookAround() {
	if _, pid, running, err := daemon.Held(daemon.FindPidFile(c.Settings)); err == nil && running {
		c.pid = pid
	}
	var ports []int
	for _, f := range c.Forwards {
		ports = append(ports, f.Port, f.NearPort())
	}
	c.listeners, c.blind = peer.ListenersAt(ports)
}

// become drops root, if there is any to drop.
func (c *checkup) become(who *user.User) error {
	if who != nil {
		if err := privdrop.To(who.Username); err != nil {
			return err
		}
	}
	c.who = who
	c.home = home()
	return nil
}

// home is where ssh looks for ~: the user's in passwd(5), whatever $HOME says
// (misc.c, tilde_expand), which may still be another user's. It is "" if it cannot
// be had.
func home() string {
	if u, err := privdrop.Lookup(strconv.Itoa(os.Getuid())); err == nil && u.HomeDir != "" {
		return u.HomeDir
	}
	dir, _ := os.UserHomeDir()
	return dir
}

// checkNobody is about a user whom we cannot become: nothing else can be said
// about him, and nothing is tried as anybody else.
func (c *checkup) checkNobody(err error) {
	if fail.Status(err) == fail.NeedsRoot {
		c.out.unknown = true
		c.add("user", broken, err.Error(), "sudo minimail check", fail.Quote("minimail", "check", "--user", daemon.UserName())+" # for yourself only")
		return
	}
	c.add("user", broken, err.Error(),
		"sudo minimail check # from your own account; or give --user NAME",
		"echo SUDO_USER=NAME | sudo tee -a "+c.Editable()+" # for the boot; getent passwd lists the names")
}

// checkSettings says where the settings come from. Those that are wrong have
// been refused before we came to be.
func (c *checkup) checkSettings() {
	file, changed := c.File(), c.Changed()
	read := file + " is not there"
	if _, err := os.Stat(file); err == nil {
		read = file + " is read"
	}
	c.add("settings", well, read+"; not defaults: "+strings.Join(changed, ", "))
}

// checkLimit looks whether as many clients as are wanted can be served.
func (c *checkup) checkLimit() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		c.add("limits", doubtful, fmt.Sprintf("cannot read the limit of open files: %v", err), "ulimit -Hn")
		return
	}
	if n := forward.Affordable(c.MaxClients, uint64(limit.Max)); n < c.MaxClients {
		c.add("limits", doubtful, fmt.Sprintf("%d open files are enough for %d clients at a time, not for %d", limit.Max, n, c.MaxClients),
			fmt.Sprintf("ulimit -Hn %d # as root, before minimail starts; systemd: LimitNOFILE=; or --max-clients %d",
				forward.FilesFor(c.MaxClients), n))
		return
	}
	c.add("limits", well, fmt.Sprintf("open files: enough for %d clients at a time", c.MaxClients))
}
