//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A world is what is known of the tests before the first mutant.
type world struct {
	dir      string
	suites   map[string]suite
	covered  profile            // by the packages' own tests
	bySystem map[string]profile // by each test of the system
	took     map[string]time.Duration
	measured sync.Once // the system's tests
	jobs     int
}

// newWorld builds all tests, and runs the packages' own without a mutant.
func newWorld(dir string, pkgs []string, jobs int) (*world, error) {
	w := &world{dir: dir, suites: map[string]suite{}, covered: profile{}, bySystem: map[string]profile{}, took: map[string]time.Duration{}, jobs: jobs}
	program := filepath.Join(dir, "minimail")
	if _, err := goTool("build", "-cover", "-covermode=atomic", "-coverpkg=./...", "-o", program, "."); err != nil {
		return nil, err
	}
	for _, pkg := range append(slices.Clone(pkgs), system) {
		if tests, _ := filepath.Glob(pkg + "/*_test.go"); len(tests) == 0 {
			continue
		}
		s := suite{pkg: pkg, binary: filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test"), program: program}
		var err error
		if pkg == system {
			err = build(pkg, s.binary)
		} else {
			err = w.measureOwn(&s)
		}
		if err != nil {
			return nil, err
		}
		w.suites[pkg] = s
	}
	return w, nil
}

// measureOwn runs a package's own tests, and leaves out those that fail here.
func (w *world) measureOwn(s *suite) error {
	if err := build(s.pkg, s.binary, "-cover", "-covermode=atomic"); err != nil {
		return err
	}
	profile := s.binary + ".cover"
	dir, err := w.coverDir(filepath.Base(s.binary))
	if err != nil {
		return err
	}
	for {
		began := time.Now()
		failed, out := s.run(5*time.Minute, []string{"TEST_COVERDIR=" + dir}, "-test.coverprofile="+profile)
		s.took = time.Since(began)
		if failed == "" {
			fmt.Printf("%-20s own tests: %.1f s\n", s.pkg, s.took.Seconds())
			return w.covered.read(profile)
		}
		if failed == "time" || failed == "panic" || len(s.skip) == 5 {
			return fmt.Errorf("%s fails without a mutant: %s\n%s", s.pkg, failed, out)
		}
		fmt.Printf("%-20s left out, it fails without a mutant: %s\n", s.pkg, failed)
		s.skip = append(s.skip, failed)
	}
}

// measureSystem runs each of the system's tests alone.
func (w *world) measureSystem() {
	s := w.suites[system]
	_, out := s.run(time.Minute, nil, "-test.list=.")
	var wait sync.WaitGroup
	var mutex sync.Mutex
	free := make(chan int, 2*w.jobs) // most wait for ssh
	for test := range strings.Lines(out) {
		if test = strings.TrimSpace(test); !strings.HasPrefix(test, "Test") {
			continue
		}
		free <- 0
		wait.Go(func() {
			defer func() { <-free }()
			began := time.Now()
			p, failed, err := w.reachedBy(s, test)
			if failed != "" {
				p, failed, err = w.reachedBy(s, test)
			}
			mutex.Lock()
			defer mutex.Unlock()
			w.took[test] = time.Since(began)
			switch {
			case err != nil:
				fmt.Fprintln(os.Stderr, "mutate:", err)
			case failed != "":
				fmt.Printf("%-20s left out, it fails without a mutant: %s\n", system, test)
			default:
				w.bySystem[test] = p
			}
		})
	}
	wait.Wait()
	fmt.Printf("%-20s %d tests\n", system, len(w.bySystem))
}

// coverDir makes one for the daemon, too, which is somebody else by then.
func (w *world) coverDir(name string) (string, error) {
	dir := filepath.Join(w.dir, "cover", name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o777)
}

// reachedBy runs one test, and reads what the programs did that it has started.
func (w *world) reachedBy(s suite, test string) (p profile, failed string, err error) {
	dir, err := w.coverDir(test)
	if err != nil {
		return nil, "", err
	}
	failed, out := s.run(3*time.Minute, []string{"TEST_COVERDIR=" + dir}, "-test.run="+exactly([]string{test}))
	if failed != "" {
		fmt.Fprintln(os.Stderr, out[max(0, len(out)-2000):])
		return nil, failed, nil
	}
	p = profile{}
	if all, _ := os.ReadDir(dir); len(all) == 0 {
		return p, "", nil // it starts none that ends
	}
	text := dir + ".txt"
	if _, err := goTool("tool", "covdata", "textfmt", "-i="+dir, "-o="+text); err != nil {
		return p, "", nil // a killed program's is cut off
	}
	return p, "", p.read(text)
}

// reach is the system's tests that run the place of m, quick ones first. The
// first time it takes some minutes.
func (w *world) reach(m mutant) (tests []string) {
	w.measured.Do(w.measureSystem)
	for test, p := range w.bySystem {
		if p.runs(m) {
			tests = append(tests, test)
		}
	}
	slices.SortFunc(tests, func(a, b string) int { return int(w.took[a] - w.took[b]) })
	return tests
}
