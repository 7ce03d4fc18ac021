package openssh

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// A Version is OpenSSH's, or zero if it is not known.
type Version struct{ Major, Minor int }

// AtLeast takes an unknown version for a new one.
func (v Version) AtLeast(major, minor int) bool {
	return v == Version{} || v.Major > major || v.Major == major && v.Minor >= minor
}

// versionTimeout is for a wrapper around ssh that takes -V for something else.
const versionTimeout = 5 * time.Second

var versionLine = regexp.MustCompile(`OpenSSH\D*_(\d+)\.(\d+)`)

// AskVersion runs `ssh -V` in an environment, for a few seconds at most.
func AskVersion(ctx context.Context, env []string, program string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-V")
	cmd.Env = env
	cmd.WaitDelay = time.Second // somebody else may have its output
	out, err := cmd.CombinedOutput()
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Version{}, err
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return Version{major, minor}, nil
}
