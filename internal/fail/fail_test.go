package fail

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// TestOnlyForkRunsOutOfProcesses: others say EAGAIN for want of something else.
func TestOnlyForkRunsOutOfProcesses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.EAGAIN, ""},
		{&fs.PathError{Op: "read", Path: "/p", Err: syscall.EAGAIN}, ""},
		{fmt.Errorf("cannot run ssh: %w", &fs.PathError{Op: "fork/exec", Path: "/ssh", Err: syscall.EAGAIN}), scarce[syscall.EAGAIN]},
		{&fs.PathError{Op: "open", Path: "/p", Err: syscall.EMFILE}, scarce[syscall.EMFILE]},
		{syscall.ENOENT, ""},
		{nil, ""},
	} {
		if got := shortage(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
