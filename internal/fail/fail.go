// Package fail is how the program fails: an error with a hint and an exit
// status, and how both are told to a person.
package fail

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// The exit statuses. Those of status are the LSB's for init scripts; 150 is in
// the LSB's range for an application of its own.
const (
	Failure        = 1
	Usage          = 2
	DeadPidFile    = 1 // status: it died
	NotRunning     = 3 // status, stop
	NagiosUnknown  = 3 // check --nagios: a plugin's fourth state (Nagios plugin guidelines); the others are verdicts
	NeedsRoot      = 4
	Unknown        = 4 // status: nobody can tell
	AlreadyRunning = 150
)

// An Error is an error with what to do about it, and with the exit status that
// it ends the program with. Its text is that of Err alone; Print prints both.
type Error struct {
	Err    error
	Hint   string // "": nothing is known to help
	Status int    // 0: that of an Err inside, or Failure
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Hint gives err a hint, unless it has one.
func Hint(err error, format string, args ...any) error {
	if HintOf(err) != "" {
		return err
	}
	return &Error{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// Rehint is err with what again makes of its hint. The error may be nil.
func Rehint(err error, again func([]string) []string) error {
	if h := HintOf(err); h != "" {
		err = &Error{Err: err, Hint: again([]string{h})[0]}
	}
	return err
}

// Exit gives err an exit status.
func Exit(err error, status int) error { return &Error{Err: err, Status: status} }

// Silent ends the program with status, when all has been said. With 0 it is nil.
func Silent(status int) error {
	if status == 0 {
		return nil
	}
	return Exit(errors.New(""), status)
}

// HintOf is the hint that err carries, or "". If the process has run out of something,
// nothing else helps than more of it.
func HintOf(err error) string {
	if more := shortage(err); more != "" {
		return more
	}
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}

// Fix is the hint that err carries as a line to be pasted, or "".
func Fix(err error) string {
	h := HintOf(err)
	if h == "" || strings.Contains(h, " # ") { // a command
		return h
	}
	return "# " + h
}

// scarce is what a process runs out of, and what gives it more.
var scarce = map[syscall.Errno]string{
	syscall.EMFILE: "ulimit -n 4096 # before minimail starts; systemd: LimitNOFILE=4096",
	syscall.ENFILE: "sudo sysctl fs.file-max # is the limit of all programs together",
	syscall.EAGAIN: "ulimit -u 4096 # before minimail starts; systemd: TasksMax=4096", // of fork(2)
}

// shortage is what gives the process more of what it has run out of, or "".
func shortage(err error) string {
	errno, start := syscall.Errno(0), (*fs.PathError)(nil)
	if !errors.As(err, &errno) || errno == syscall.EAGAIN && !(errors.As(err, &start) && start.Op == "fork/exec") {
		return ""
	}
	return scarce[errno]
}

// Status is the exit status that err carries: 0 for nil, Failure if it has none.
func Status(err error) int {
	switch {
	case err == nil:
		return 0
	case shortage(err) != "": // that is nobody's setting
		return Failure
	}
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Status != 0 {
			return e.Status
		}
	}
	return Failure
}

// Print tells a person why the program ends: what, why, and how to mend it.
func Print(w io.Writer, err error) {
	if err.Error() == "" {
		return
	}
	fmt.Fprintf(w, "minimail: %s\n", Printable(err.Error()))
	if h := HintOf(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", Printable(h))
	}
}

// File is an error about a file that cannot be used, without what package os
// puts around the reason.
func File(doing, file string, err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("%s %s: %w", doing, file, err)
}

// Read is about a file that is there for us to read.
func Read(doing, file, option string, err error) error {
	err = File(doing, file, err)
	if errors.Is(err, fs.ErrPermission) {
		return Hint(err, "run it with sudo")
	}
	return Hint(err, "%s another FILE", option)
}

// Address is err without what package net puts around the reason.
func Address(err error) error {
	var op *net.OpError
	var errno syscall.Errno
	if errors.As(err, &op) && op.Addr != nil && errors.As(err, &errno) {
		return fmt.Errorf("cannot listen on %s: %w", op.Addr, errno)
	}
	return err
}
