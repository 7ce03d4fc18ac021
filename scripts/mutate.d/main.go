//go:build linux

// Mutate puts small faults into minimail, one at a time, and looks whether a test
// sees them; see scripts/mutate, which calls it.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// rooms are the packages of the product.
var rooms = []string{".", "forward", "internal/check", "internal/daemon", "internal/fail", "internal/serve", "internal/settings",
	"privdrop", "tunnel", "tunnel/openssh", "tunnel/peer"}

func main() {
	count := flag.Int("n", 300, "how many mutants")
	seed := flag.Uint64("s", rand.Uint64()%1_000_000_000, "seed of the sample")
	jobs := flag.Int("j", 2, "how many at the same time")
	pkgs := flag.String("p", strings.Join(rooms, ","), "packages, with commas between them")
	only := flag.String("only", "", "FILE:LINE, with commas between them: all mutants of these lines, and no others")
	flag.Parse()
	if signal.Ignored(os.Interrupt) { // in the background; what we start shall heed it
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	if flag.NArg() > 0 || *count < 1 || *jobs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := mutate(*count, *seed, *jobs, strings.Split(*pkgs, ","), *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(count int, seed uint64, jobs int, pkgs []string, only string) error {
	all, err := allMutants(pkgs)
	if err != nil {
		return err
	}
	if only != "" {
		all = slices.DeleteFunc(all, func(m mutant) bool {
			return !slices.Contains(strings.Split(only, ","), fmt.Sprintf("%s:%d", m.file, m.line))
		})
		count, pkgs = len(all), nil
		for _, m := range all {
			pkgs = append(pkgs, filepath.Dir(m.file))
		}
		slices.Sort(pkgs)
		pkgs = slices.Compact(pkgs)
	}
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // minimail becomes somebody else
		return err
	}
	fmt.Printf("seed %d: %d of %d mutants\n", seed, count, len(all))
	w, err := newWorld(dir, pkgs, jobs)
	if err != nil {
		return err
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return report(pkgs, w.tryAll(all, count, jobs, only != ""))
}

// allMutants are those of the files that Go builds here.
func allMutants(pkgs []string) (all []mutant, err error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for _, pkg := range pkgs {
		files, err := goTool("list", "-f", "{{join .GoFiles \"\\n\"}}", "./"+pkg)
		if err != nil {
			return nil, err
		}
		for _, file := range strings.Fields(files) {
			found, err := mutantsOf(root, filepath.Join(pkg, file))
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

// tryAll tries mutants that a test reaches (or each) and that can be built, until
// there are count of them.
func (w *world) tryAll(all []mutant, count, jobs int, each bool) (tries []try) {
	var wait sync.WaitGroup
	var mutex sync.Mutex
	next := func() (m mutant, ok bool) {
		mutex.Lock()
		defer mutex.Unlock()
		for len(all) > 0 && count > 0 {
			m, all = all[0], all[1:]
			if each || w.covered.runs(m) || len(w.reach(m)) > 0 {
				count-- // until it turns out to be none
				return m, true
			}
		}
		return m, false
	}
	done := func(t try, err error) {
		mutex.Lock()
		defer mutex.Unlock()
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
		}
		if !t.viable {
			count++
			return
		}
		tries = append(tries, t)
		verdict := "SURVIVES"
		if t.killer != "" {
			verdict = "killed by " + t.killer + " " + t.test
		}
		fmt.Printf("%3d, %d to go: %v: %s\n", len(tries), count, t.mutant, verdict)
	}
	for job := range jobs {
		dir := filepath.Join(w.dir, fmt.Sprint("job", job))
		if err := os.Mkdir(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			continue
		}
		wait.Go(func() {
			for m, ok := next(); ok; m, ok = next() {
				done(w.try(m, dir))
			}
		})
	}
	wait.Wait()
	return tries
}

// report prints the score of each package, and who survives.
func report(pkgs []string, tries []try) error {
	fmt.Printf("\n%-20s mutants  by own tests  by the system's  survive\n", "")
	var sum [4]int
	row := func(name string, n [4]int) { fmt.Printf("%-20s %7d  %12d  %15d  %7d\n", name, n[0], n[1], n[2], n[3]) }
	for _, pkg := range pkgs {
		var n [4]int
		for _, t := range tries {
			if filepath.Dir(t.file) != pkg {
				continue
			}
			n[0]++
			switch t.killer {
			case pkg:
				n[1]++
			case system:
				n[2]++
			default:
				n[3]++
			}
		}
		for i := range n {
			sum[i] += n[i]
		}
		row(pkg, n)
	}
	row("all", sum)
	if sum[0] == 0 {
		return fmt.Errorf("no test reaches such a place")
	}
	fmt.Printf("score: %.1f %%\n\n", 100*float64(sum[0]-sum[3])/float64(sum[0]))
	for _, t := range tries {
		if t.killer == "" {
			fmt.Println("survives:", t.mutant)
		}
	}
	return nil
}
