// Package openssh knows OpenSSH's client: its command line, its environment, its
// version, its settings, and what it says.
package openssh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Command is the ssh that makes a tunnel.
type Command struct {
	Program    string   // a name in PATH, or a path
	ConfigFile string   // in place of ssh_config; empty: the user's and the system's
	Options    []string // the user's, each as -o takes it
	Host       string
	Forwards   []string // each as -L takes it, NEAR:FAR
}

// Argv is its command line. With it ssh's standard output is ssh's log: what
// stands there, ssh itself has said (do_log in log.c). Its standard error has
// the host's banner (input_userauth_banner in sshconnect2.c), and the words of
// whatever ssh runs.
func (c Command) Argv(version Version) []string {
	return slices.Concat([]string{c.Program, "-E", "/dev/stdout"}, c.arguments(version))
}

// arguments are what is the same when ssh is only asked (-G). ssh takes the
// first value it sees of an option, so what supervision depends on comes first,
// then what the user wants, then what we would like. All of it beats ssh_config.
func (c Command) arguments(version Version) []string {
	argv := append(c.file(), "-N")
	options := []string{
		// It must stay our child, and be the one that has the near end.
		"ControlMaster=no", "ControlPath=none", "ControlPersist=no",
		// Only this machine may use the near end.
		"GatewayPorts=no",
		// Nobody is there to answer a question.
		"BatchMode=yes", "RequestTTY=no",
		"PermitLocalCommand=no",
		// A Unix socket that a killed ssh has left behind is in the way.
		"StreamLocalBindUnlink=yes",
		// One that cannot be had must not end the tunnel if it is not ours;
		// tunnel sees to ours.
		"ExitOnForwardFailure=no",
	}
	if version.AtLeast(8, 7) {
		options = append(options, "ForkAfterAuthentication=no")
	}
	options = append(options, c.Options...)
	options = append(options,
		// Notice a dead host, before we are up and after.
		"ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
		// Hear why something fails, even if ssh_config says QUIET.
		"LogLevel=VERBOSE",
	)
	argv = append(argv, each("-o", options)...)
	argv = append(argv, each("-L", c.Forwards)...)
	return append(argv, "--", c.Host)
}

// plainly are the arguments that somebody would give to ssh by hand.
func (c Command) plainly() []string {
	return slices.Concat(c.file(), each("-o", c.Options), []string{"--", c.Host})
}

func (c Command) file() []string {
	if c.ConfigFile == "" {
		return nil
	}
	return []string{"-F", c.ConfigFile}
}

func each(flag string, values []string) (args []string) {
	for _, v := range values {
		args = append(args, flag, v)
	}
	return args
}

// Env is our environment without what is only for us. What ssh_config's
// Match exec or a ProxyCommand may look at stays. They are run by $SHELL, which
// an account that nobody logs in to (nologin(8)) does not really have.
func Env() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		for _, ours := range []string{"MINIMAIL_", "SUDO_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET", "GOCOVERDIR", "_GO_DAEMON"} {
			if strings.HasPrefix(name, ours) {
				return true
			}
		}
		return false
	})
	switch filepath.Base(os.Getenv("SHELL")) {
	case "nologin", "false":
		env = append(env, "SHELL=/bin/sh")
	}
	return env
}
