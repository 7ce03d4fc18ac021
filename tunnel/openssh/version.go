package openssh

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	cmd.WaitDelay = heldOpen
	out, err := cmd.CombinedOutput()
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Version{}, err
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return Version{major, minor}, nil
}

// A cure is a line to type if a program cannot be run.
type cure struct {
	because error // nil: anything else
	line    string
}

var cures = []cure{
	{fs.ErrNotExist, "sudo apt install openssh-client # or --ssh ANOTHER, without options"},
	{exec.ErrNotFound, "sudo apt install openssh-client # or --ssh ANOTHER, without options"},
	{syscall.EMFILE, "ulimit -n 4096 # before minimail starts; systemd: LimitNOFILE=4096"},
	{syscall.EAGAIN, "ulimit -u 4096 # before minimail starts; systemd: TasksMax=4096"},
	{syscall.EISDIR, "ls -lL PROGRAM # must be a program; or --ssh ANOTHER"},
	{fs.ErrPermission, "ls -lL PROGRAM # the user must be able to run it; or --ssh ANOTHER"},
	{syscall.ENOEXEC, "file -L PROGRAM # must be made for this machine; or --ssh ANOTHER"},
	{nil, "PROGRAM -V # must say which OpenSSH it is; or --ssh ANOTHER"},
}

var withoutPath = cure{exec.ErrNotFound, "export PATH=/usr/bin:/bin # it is not set"}

// Cure is what may help if program cannot be run because of err.
func Cure(program string, err error) string {
	if os.Getenv("PATH") == "" && errors.Is(err, exec.ErrNotFound) {
		return withoutPath.line
	}
	if it := (*fs.PathError)(nil); errors.As(err, &it) && errors.Is(err, fs.ErrNotExist) {
		if _, missing := os.Stat(it.Path); missing == nil {
			err = syscall.ENOEXEC // it is there: its interpreter is not (execve(2))
		}
	}
	i := slices.IndexFunc(cures, func(c cure) bool { return c.because == nil || errors.Is(err, c.because) })
	return strings.Replace(cures[i].line, "PROGRAM", program, 1)
}
