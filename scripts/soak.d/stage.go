//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// A stage is what package testbed builds its world on where no test runs: what
// fails ends the program, after all that was set up has been taken down.
type stage struct {
	testing.TB // for the methods that nobody calls here
	keep       bool

	mu       sync.Mutex
	cleanups []func()
	once     sync.Once
}

func (s *stage) Helper()      {}
func (s *stage) Failed() bool { return false }

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (s *stage) Error(args ...any)               { fmt.Fprintln(os.Stderr, args...) }
func (s *stage) Errorf(format string, args ...any) {
	s.Logf(format, args...)
}

func (s *stage) Skip(args ...any) { s.Fatal(args...) }
func (s *stage) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"soak:"}, args...)...)
	s.end(1)
}
func (s *stage) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if s.keep {
			fmt.Println("kept:", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

// end takes everything down, once, and leaves with a status.
func (s *stage) end(status int) {
	s.once.Do(func() {
		s.mu.Lock()
		all := slices.Clone(s.cleanups)
		s.mu.Unlock()
		for _, f := range slices.Backward(all) {
			f()
		}
		os.Exit(status)
	})
	select {} // another one is at it
}
