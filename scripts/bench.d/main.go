//go:build unix

// Bench measures minimail against a bare ssh and other forwarders; see
// scripts/bench, which builds and calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 3 && os.Args[1] == "farend" {
		return farEnd(os.Args[2])
	}
	if len(os.Args) == 3 && os.Args[1] == "keep" {
		return keepCopies(os.Args[2])
	}
	minimail := flag.String("minimail", "", "the `program`, stripped and static")
	beside := flag.String("beside", "", "another minimail `program` to compare with")
	dir := flag.String("dir", "", "an empty `directory` for what the run makes")
	docs := flag.String("docs", "", "`directory` of the report; without one there is none")
	rows := flag.String("rows", "", "measure only rows whose names match this `pattern`")
	packets := flag.Bool("packets", false, "print the packets of a cold start over 150 ms, and measure nothing")
	quick := flag.Bool("quick", false, "fewer and smaller runs")
	flag.Parse()
	if *minimail == "" || *dir == "" || flag.NArg() > 0 {
		return errors.New("-minimail and -dir are needed; see scripts/bench")
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	programs := []program{{us, *minimail}}
	if *beside != "" {
		programs = append(programs, program{before, *beside})
	}
	w, err := newWorld(*dir, programs...)
	if err != nil {
		return err
	}
	defer w.end()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, func() { // the measuring is at no place where it could be stopped
		w.end()
		os.Exit(130)
	})()

	only, err := regexp.Compile(*rows)
	if err != nil {
		return err
	}
	if *rows == "" && *quick {
		only = quickRows
	}
	b := &bench{world: w, quick: *quick, only: only, tell: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	for _, p := range peers {
		if !installed(p) {
			b.tell("skipped: %s is not installed", p.name)
		}
	}
	if *packets {
		return b.packets()
	}
	if err := b.all(); err != nil {
		return err
	}
	fmt.Printf("\n%s", b.table())
	if *docs == "" {
		return nil
	}
	return b.writeDocs(*docs)
}

// raiseFileLimit is for us and for all that we start: Go restores the old limit
// for children unless it has been set by ourselves.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
