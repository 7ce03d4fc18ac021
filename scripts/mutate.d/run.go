//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const system = "internal/system"

// A suite is a package's tests, built without a mutant.
type suite struct {
	pkg     string
	binary  string
	program string        // the minimail that they run
	overlay string        // for what they build themselves
	took    time.Duration // all of them, without a mutant
	skip    []string      // tests that fail by themselves
}

// goTool runs the go command in the source.
func goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out), nil
}

// build makes the tests of pkg, with extra arguments for go test.
func build(pkg, binary string, args ...string) error {
	_, err := goTool(append(append([]string{"test", "-c", "-o", binary}, args...), "./"+pkg)...)
	return err
}

// run runs a suite's tests as the first process of a pid namespace, with which
// all that they have started ends. It returns the name of the first that fails;
// "" if none does, "time" if they are not done in time, "panic" if nobody knows.
func (s suite) run(limit time.Duration, env []string, args ...string) (failed, output string) {
	mine := []string{"-c", `mount -t proc proc /proc; "$@"; exit $?`, "sh", s.binary, "-test.v", "-test.failfast", "-test.parallel=8"}
	if len(s.skip) > 0 {
		mine = append(mine, "-test.skip="+exactly(s.skip))
	}
	cmd := exec.Command("sh", append(mine, args...)...)
	cmd.Dir = s.pkg
	cmd.Env = append(append(os.Environ(), "TEST_MINIMAIL="+s.program), env...)
	if s.overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS=-overlay="+s.overlay)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		return err.Error(), ""
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err.Error(), ""
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	var all strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if name, ok := strings.CutPrefix(lines.Text(), "--- FAIL: "); ok && failed == "" {
			failed, _, _ = strings.Cut(name, " ")
			_ = cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	switch {
	case failed != "" || err == nil:
	case late.Stop():
		failed = "panic"
	default:
		failed = "time"
	}
	return failed, all.String()
}

// exactly is a pattern for these tests and no others.
func exactly(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }

// A try is one mutant's.
type try struct {
	mutant
	killer string // the package whose test has seen it; "" if none has
	test   string
	viable bool
}

// try builds and tests a mutant in a directory of its own.
func (w *world) try(m mutant, dir string) (t try, err error) {
	t.mutant = m
	overlay, err := writeOverlay(m, dir)
	if err != nil {
		return t, err
	}
	program := filepath.Join(dir, "minimail")
	if _, err := goTool("build", "-overlay", overlay, "-o", program, "."); err != nil {
		return t, nil // it is none
	}
	t.viable = true
	pkg := filepath.Dir(m.file)
	if s, ok := w.suites[pkg]; ok {
		s.binary, s.program, s.overlay = filepath.Join(dir, "test"), program, overlay
		if err := build(pkg, s.binary, "-overlay", overlay); err != nil {
			t.viable = false
			return t, nil
		}
		if t.test = kills(s, 3*s.took+20*time.Second, nil); t.test != "" {
			t.killer = pkg
			return t, nil
		}
	}
	s := w.suites[system]
	s.program, s.overlay = program, overlay
	// Quick ones first; a kill ends it.
	for tests := range slices.Chunk(w.reach(m), 25) {
		if t.test = kills(s, 4*time.Minute, tests); t.test != "" {
			t.killer = system
			break
		}
	}
	return t, nil
}

// kills returns the test that fails, and fails again; one that fails once is left
// out.
func kills(s suite, limit time.Duration, tests []string) string {
	s.skip = slices.Clone(s.skip)
	for range 4 {
		var args []string
		if tests != nil {
			args = []string{"-test.run=" + exactly(tests)}
		}
		failed, _ := s.run(limit, nil, args...)
		switch failed {
		case "", "time":
			return failed
		case "panic":
		default:
			args = []string{"-test.run=" + exactly([]string{failed})}
		}
		if again, _ := s.run(limit, nil, args...); again != "" {
			return failed
		}
		if failed != "panic" {
			s.skip = append(s.skip, failed)
		}
	}
	return ""
}

// writeOverlay has go build see m instead of the source.
func writeOverlay(m mutant, dir string) (file string, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	text = slices.Concat(text[:m.from], []byte(m.text), text[m.to:])
	changed := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(changed, text, 0o644); err != nil {
		return "", err
	}
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.file): changed}})
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o644)
}
