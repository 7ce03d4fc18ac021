package openssh

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
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

// Cure is the line to type if a program cannot be run because of err.
func Cure(program string, err error) (line string) {
	line = "ls -lL " + program + " # must be a program for this machine that the user may run; or --ssh PROGRAM"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		line = "sudo apt install openssh-client # or --ssh PROGRAM"
	case errors.Is(err, syscall.EMFILE):
		line = "ulimit -n 4096 # before minimail starts; systemd: LimitNOFILE=4096"
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		line = "ulimit -u 4096 # before minimail starts; systemd: TasksMax=4096"
	}
	return line
}
