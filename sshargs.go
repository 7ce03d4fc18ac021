package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sshArgv is the command of the tunnel. ssh takes the first value it sees of an
// option, so what supervision depends on comes first, then what the user wants,
// then what we would like. All of it beats ssh_config.
func sshArgv(s settings, version sshVersion) []string {
	argv := []string{s.ssh}
	if s.sshConfig != "" {
		argv = append(argv, "-F", s.sshConfig)
	}
	argv = append(argv, "-N")
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
	if version.atLeast(8, 7) {
		options = append(options, "ForkAfterAuthentication=no")
	}
	options = append(options, s.sshOptions...)
	options = append(options,
		// Notice a dead host, before we are up and after.
		"ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
		// Hear why something fails, even if ssh_config says QUIET.
		"LogLevel=VERBOSE",
	)
	for _, o := range options {
		argv = append(argv, "-o", o)
	}
	for _, f := range s.forwards {
		argv = append(argv, "-L", f.near+":"+f.far)
	}
	return append(argv, "--", s.host)
}

// sshVersion is OpenSSH's, or zero if it is not known.
type sshVersion struct{ major, minor int }

// atLeast takes an unknown version for a new one.
func (v sshVersion) atLeast(major, minor int) bool {
	return v == sshVersion{} || v.major > major || v.major == major && v.minor >= minor
}

// versionTimeout is for a wrapper around ssh that takes -V for something else.
const versionTimeout = 5 * time.Second

var versionLine = regexp.MustCompile(`OpenSSH\D*_(\d+)\.(\d+)`)

// askVersion runs `ssh -V`, for a few seconds at most.
func askVersion(program string) (sshVersion, error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-V")
	cmd.WaitDelay = time.Second // somebody else may have its output
	out, err := cmd.CombinedOutput()
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return sshVersion{}, err
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return sshVersion{major, minor}, nil
}

// sshEnv is our environment without what is only for us. What ssh_config's
// Match exec or a ProxyCommand may look at stays. They are run by $SHELL, which
// an account that nobody logs in to (nologin(8)) does not really have.
func sshEnv() []string {
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

// nearEnds are the local ends of all forwards.
func nearEnds(forwards []forwardSpec) []string {
	var ends []string
	for _, f := range forwards {
		ends = append(ends, f.near)
	}
	return ends
}
