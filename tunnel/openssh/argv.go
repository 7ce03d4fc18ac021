// Package openssh knows OpenSSH's client: its command line, its environment, its
// version, its settings, and what it says.
package openssh

import (
	"io/fs"
	"os"
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

// arguments are those of the tunnel, with values of ours for what the user has
// left open. ssh takes the first value it sees of an option, so what supervision
// depends on comes first, then what the user wants, then our defaults. All of it
// beats ssh_config. The first forward gets the port, so ours come before the user's.
func (c Command) arguments(version Version, defaults []string) []string {
	argv := append(append(c.file(), "-N"), each("-L", c.Forwards)...)
	options := []string{
		// It must stay our child, and be the one that has the near end.
		"ControlMaster=no", "ControlPath=none", "ControlPersist=no",
		// Only this machine may use the near end.
		"GatewayPorts=no",
		// Ours are forwards, too.
		"ClearAllForwardings=no",
		// Nobody is there to answer a question.
		"BatchMode=yes", "RequestTTY=no",
		"PermitLocalCommand=no",
		// A Unix socket that a killed ssh has left behind is in the way; but ssh
		// would remove anything.
		"StreamLocalBindUnlink=" + map[bool]string{true: "yes", false: "no"}[c.nearEndsAreSockets()],
		// One that cannot be had must not end the tunnel if it is not ours;
		// tunnel sees to ours.
		"ExitOnForwardFailure=no",
	}
	if version.AtLeast(8, 7) {
		options = append(options, "ForkAfterAuthentication=no")
	}
	argv = append(argv, each("-o", slices.Concat(options, c.Options, defaults))...)
	return append(argv, "--", c.Host)
}

// nearEndsAreSockets reports whether no near end is the name of a file that is
// there and is something else. If there is one, ssh is to say that it is in the way.
func (c Command) nearEndsAreSockets() bool {
	for _, f := range c.Forwards {
		near, _, _ := strings.Cut(f, ":")
		info, err := os.Lstat(near)
		if strings.HasPrefix(near, "/") && err == nil && info.Mode()&fs.ModeSocket == 0 {
			return false
		}
	}
	return true
}

// ByHand is what somebody would type, with options in front.
func (c Command) ByHand(options ...string) []string {
	return slices.Concat([]string{c.Program}, options, c.file(), each("-o", c.Options), []string{"--", c.Host})
}

// CopyKey has the host accept a key.
func (c Command) CopyKey(file string) []string {
	return slices.Concat([]string{"ssh-copy-id", "-i", file + ".pub"}, c.file(), each("-o", c.Options), []string{c.Host})
}

// ParseCommand is the ssh of a command line like those that ssh makes of
// ProxyJump (main in ssh.c), as far as it is understood; -W is left out.
func ParseCommand(line string) (c Command) {
	words := strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(strings.TrimPrefix(line, "exec ")))
	for i := 1; i < len(words)-1; i++ {
		option, known := map[string]string{"-F": "", "-W": "", "-o": "", "-i": "IdentityFile=", "-J": "ProxyJump=", "-l": "User=", "-p": "Port="}[words[i]]
		switch {
		case !known:
			continue
		case words[i] == "-F":
			c.ConfigFile = words[i+1]
		case words[i] != "-W":
			c.Options = append(c.Options, option+words[i+1])
		}
		i++
	}
	if len(words) > 1 {
		c.Program, c.Host = words[0], words[len(words)-1]
	}
	return c
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
