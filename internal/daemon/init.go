package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"minimail/internal/fail"
)

// asInit is for a container without an init: what a ProxyCommand leaves behind
// becomes a child of process 1, and stays a zombie unless that reaps it. So
// minimail itself is a child of this one, which does nothing but reap and pass
// signals on. It ends as the child does.
func asInit() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	child, err := os.StartProcess(self, os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	go func() { // ends with the process
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	for {
		var how syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &how, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("cannot wait for minimail: %w", err)
		case pid == child.Pid && how.Signaled():
			return fail.Silent(128 + int(how.Signal())) // as sh has it
		case pid == child.Pid && how.ExitStatus() != 0:
			return fail.Silent(how.ExitStatus())
		case pid == child.Pid:
			return nil
		}
	}
}
