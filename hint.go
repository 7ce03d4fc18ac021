package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"syscall"
)

// A hinted is an error with a line that tells what to do about it. Its text is
// the error's alone; complain prints both.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// hint gives err a hint, unless it has one.
func hint(err error, format string, args ...any) error {
	if hintOf(err) != "" {
		return err
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// hintOf is the hint that err carries, or "".
func hintOf(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// complain tells a person why the program ends: what, why, and how to mend it.
func complain(w io.Writer, err error) {
	fmt.Fprintf(w, "minimail: %v\n", err)
	if h := hintOf(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

// fileError is about a file that cannot be used, without what package os puts
// around the reason.
func fileError(doing, file string, err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("%s %s: %w", doing, file, err)
}

// placeError is about a file that cannot be made where option says, or does not
// say.
func placeError(doing, file, option string, err error) error {
	err = fileError(doing, file, err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint(err, "mkdir -p %s, or %s another FILE", filepath.Dir(file), option)
	case errors.Is(err, fs.ErrPermission):
		return hint(err, "run it with sudo, or %s a FILE where you may write", option)
	}
	return hint(err, "%s another FILE", option)
}

// readError is about a file that is there for us to read.
func readError(doing, file, option string, err error) error {
	err = fileError(doing, file, err)
	if errors.Is(err, fs.ErrPermission) {
		return hint(err, "run it with sudo")
	}
	return hint(err, "%s another FILE", option)
}

// addressError is err without what package net puts around the reason.
func addressError(err error) error {
	var op *net.OpError
	var errno syscall.Errno
	if errors.As(err, &op) && op.Addr != nil && errors.As(err, &errno) {
		return fmt.Errorf("cannot listen on %s: %w", op.Addr, errno)
	}
	return err
}
