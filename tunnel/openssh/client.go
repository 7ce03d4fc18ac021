package openssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Client is the ssh that makes a tunnel, and what is known of it. It is asked
// when nobody waits for it; what has not been asked yet is taken for what most
// people have. All methods may be called at any time.
type Client struct {
	Command
	Version Version
	Env     []string // see func Env

	mu     sync.Mutex
	theirs Config // as by hand; nil: not asked yet
}

// ConnectTimeout and what follows are our defaults. A user's own values win,
// also those in ssh_config.
const (
	connectTimeout = 10 * time.Second
	// probe is how long ssh hears nothing before it asks for a sign of life.
	probe = 10 * time.Second
	// probesSeen is how many questions in vain end ssh where the kernel tells us
	// sooner that a link is dead, and whether bytes are acknowledged on a slow
	// one; probesBlind is the same elsewhere. They bound each step of a login.
	probesSeen, probesBlind = 12, 5
)

// Argv is the command line of a launch. It returns at once. With it ssh's
// standard output is ssh's log: what stands there, ssh itself has said (do_log in
// log.c). Its standard error has the host's banner (input_userauth_banner in
// sshconnect2.c), and the words of whatever ssh runs. The ssh of a ProxyJump is
// as verbose as its own only by -v (main in ssh.c).
func (c *Client) Argv() []string {
	argv := []string{c.Program, "-E", "/dev/stdout"}
	if c.aloud() {
		argv = append(argv, "-v")
	}
	return append(argv, c.arguments(c.Version, c.Ours())...)
}

// aloud reports whether ssh gets a -v, for the sake of a ProxyJump's.
func (c *Client) aloud() bool { return c.Known().One("proxyjump") != "" && c.levelIsOurs() }

// levelIsOurs reports whether the user has no wish how much ssh is to say.
func (c *Client) levelIsOurs() bool {
	return !strings.HasPrefix(c.Known().One("loglevel"), "DEBUG") && !slices.ContainsFunc(c.Options, func(o string) bool {
		return strings.HasPrefix(strings.ToLower(o), "loglevel")
	})
}

// Ask asks ssh what it would make of ssh_config and of the user's options by
// hand, and remembers that. An error is in ssh's own words: it will not run with
// such settings; or it is ctx's, or that of a program that cannot be run. Match
// exec may take its time, ten seconds at most.
func (c *Client) Ask(ctx context.Context) (Config, error) {
	theirs, err := c.ask(ctx, c.ByHand("-N")[1:]) // ForkAfterAuthentication wants that, or a command
	if hop := c.loop(ctx, theirs); hop != "" {
		return nil, errors.New("jumphost loop via " + hop) // as main in ssh.c
	}
	if err == nil && theirs.One(alive) == "0" && c.leavesAliveOpen(ctx) {
		delete(theirs, alive)
	}
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.theirs = theirs
	}
	return theirs, err
}

// loop is a jump host by way of which it is reached itself, or "". ssh does not
// see that if it has a HostName, and then starts one ssh after another.
func (c *Client) loop(ctx context.Context, there Config) (hop string) {
	for been := []string{}; ; been = append(been, hop) {
		hop, _, _ = strings.Cut(there.One("proxyjump"), ",") // the others are gone to from there
		if hop == "" || slices.Contains(been, hop) {
			return hop
		}
		there, _ = c.ask(ctx, append(c.file(), "ssh://"+strings.TrimPrefix(hop, "ssh://")))
	}
}

// alive is the setting of which ssh -G tells the same if it is 0 and if there is none.
const alive = "serveraliveinterval"

// leavesAliveOpen reports whether that 0 is ssh's own, not one of ssh_config: ssh is
// asked once more, with another value behind all. If it does not answer, it is.
func (c *Client) leavesAliveOpen(ctx context.Context) bool {
	files := []string{"~/.ssh/config", "/etc/ssh/ssh_config"}
	if c.ConfigFile != "" {
		file, _ := filepath.Abs(c.ConfigFile)
		files = []string{strconv.Quote(file)}
	}
	behind := strings.NewReader("Include " + strings.Join(files, " ") + "\nMatch all\n" + alive + " 7777\n")
	asked := Command{c.Program, "/dev/stdin", c.Options, c.Host, nil}.ByHand("-G", "-N")
	out, _, err := askWith(ctx, behind, c.Env, asked[0], asked[1:]...)
	return err != nil || ParseConfig(out).One(alive) != "0"
}

// InForce asks what it will make of them, and of our options, for a tunnel.
func (c *Client) InForce(ctx context.Context) (Config, error) {
	return c.ask(ctx, c.arguments(c.Version, c.Ours()))
}

func (c *Client) ask(ctx context.Context, args []string) (Config, error) {
	out, words, err := Ask(ctx, c.Env, c.Program, append([]string{"-G"}, args...)...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited() && words != "" && meanings[parse(complaint(words)).means].failure == Unseen:
		return nil, fmt.Errorf("%s: %w", complaint(words), err) // of a name service, say: that is no fault of the settings
	case errors.As(err, &exit) && exit.Exited() && words != "":
		return nil, errors.New(complaint(words))
	case err != nil:
		return nil, err
	}
	return ParseConfig(out), nil
}

// complaint is the last line, or the one before if that only counts them
// (read_config_file_depth in readconf.c), or says no more than that it failed.
func complaint(words string) string {
	if strings.HasPrefix(words, "usage: ") { // usage (ssh.c), of a host that is no URI, say
		return "it takes the host, or an option, for none, and prints its usage"
	}
	lines := strings.Split(words, "\n")
	last := len(lines) - 1
	if last > 0 && (strings.Contains(lines[last], ": terminating, ") || parse(lines[last-1]).means == Detail) {
		last--
	}
	return strings.TrimSpace(lines[last])
}

// Known is what Ask has learned last of what ssh would do by hand; nil: nothing.
func (c *Client) Known() Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.theirs
}

// Jumps reports whether the way to the host is known to be another ssh.
func (c *Client) Jumps() bool { return c.Known().Jumps() }

// Probe is how long ssh hears nothing before it asks for a sign of life; zero:
// it never does.
func (c *Client) Probe() time.Duration {
	for _, o := range slices.Concat(c.Options, c.Ours()) {
		if name, value, _ := strings.Cut(o, "="); strings.EqualFold(name, "ServerAliveInterval") {
			seconds, _ := strconv.Atoi(value)
			return time.Duration(seconds) * time.Second
		}
	}
	seconds, _ := strconv.Atoi(c.Known().One(alive))
	return time.Duration(seconds) * time.Second
}

// Ours are our values for what the user has left open, each as -o takes it.
func (c *Client) Ours() []string {
	known := c.Known()
	var all []string
	if known.One("connecttimeout") == "" {
		all = append(all, "ConnectTimeout="+seconds(connectTimeout))
	}
	if known.One(alive) == "" {
		all = append(all, "ServerAliveInterval="+seconds(probe))
		if v := known.One("serveralivecountmax"); v == "" || v == "3" { // ssh's own
			all = append(all, "ServerAliveCountMax="+strconv.Itoa(probes(known)))
		}
	}
	if c.levelIsOurs() {
		all = append(all, "LogLevel=VERBOSE") // to hear why something fails, even if ssh_config says QUIET
	}
	if c.Version.AtLeast(6, 8) && homeIsFrozen() {
		all = append(all, "UpdateHostKeys=no") // it would complain at each login
	}
	return all
}

// Summary is what ssh makes of the host: by which way it goes there, which of the
// user's settings are overridden, and the values in force of what bounds a login
// and a silent link, with whose they are.
func (c *Client) Summary(theirs, inForce Config) string {
	all := []string{fmt.Sprintf("%s is %s@%s, port %s", c.Host, inForce.One("user"), inForce.One("hostname"), inForce.One("port"))}
	for _, k := range []string{"ProxyJump", "ProxyCommand"} {
		if v := inForce.One(strings.ToLower(k)); v != "" {
			all = append(all, k+" "+v)
		}
	}
	if o := theirs.Overridden(); len(o) > 0 {
		all = append(all, "overridden: "+strings.Join(o, ", "))
	}
	ours := strings.Join(c.Ours(), " ")
	for _, its := range [][2]string{{"ConnectTimeout", "none"}, {"ServerAliveInterval", ""}, {"ServerAliveCountMax", "3"}, {"TCPKeepAlive", "yes"}} {
		value, whose := cmp.Or(inForce.One(strings.ToLower(its[0])), "none"), "yours"
		switch {
		case strings.Contains(ours, its[0]+"="):
			whose = "minimail's"
		case value == its[1]:
			whose = "ssh's"
		}
		all = append(all, its[0]+" "+value+" ("+whose+")")
	}
	return strings.Join(all, "; ")
}

// probes depend on whether the kernel can be asked: of Linux, if ssh has a
// connection of its own to the host.
func probes(known Config) int {
	if runtime.GOOS == "linux" && known != nil && known.One("proxycommand") == "" && known.One("proxyjump") == "" {
		return probesSeen
	}
	return probesBlind
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// homeIsFrozen reports whether known_hosts is on a file system that cannot be
// written to, as with systemd's ProtectHome=read-only.
func homeIsFrozen() bool {
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	err = unix.Access(filepath.Join(home, ".ssh"), unix.W_OK)
	if errors.Is(err, unix.ENOENT) {
		err = unix.Access(home, unix.W_OK)
	}
	return errors.Is(err, unix.EROFS)
}
