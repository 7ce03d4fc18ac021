package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// PublicDir is a temporary directory that other users may enter.
func PublicDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Script is an executable file of sh's that any user may run, in a directory of its
// own, called ssh.
func Script(t testing.TB, lines string) string {
	t.Helper()
	path := filepath.Join(PublicDir(t), "ssh")
	writeProgram(t, path, []byte("#!/bin/sh\n"+lines))
	return path
}

// writeProgram has no other test's child inherit the open file, which would keep it
// from being run (ETXTBSY) until that child has become another program.
func writeProgram(t testing.TB, path string, b []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, b, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func Read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func GiveTo(t testing.TB, path, name string) {
	t.Helper()
	NeedRoot(t)
	if err := os.Chown(path, UidOf(t, name), -1); err != nil {
		t.Fatal(err)
	}
}

// Expand replaces pairs in lines.
func Expand(lines []string, pairs ...string) []string {
	return strings.Split(strings.NewReplacer(pairs...).Replace(strings.Join(lines, "\n")), "\n")
}

func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
