//go:build linux

package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const sample = `package sample

import "time"

const patience = 3 * time.Second

func first(a, b int, on bool) (n int, err error) {
	if a < b && !on {
		n++
	}
	switch {
	case a == 'x':
		defer f()
	default:
		n = 0o600
	}
	for a != 0 {
		return n, f()
	}
	return 0, nil
}

func second() point { return point{} }
`

var wanted = []string{
	"5 constant: 3 -> 3*10", "5 constant: 3 * time.Second -> 3 * time.Second/10",
	"8 negate: a < b && !on -> !(a < b && !on)", "8 swap: && -> ||", "8 swap: < -> <=",
	"9 drop: n++ -> nothing",
	"12 drop case: case a == 'x': defer f() -> nothing", "12 swap: == -> !=", "12 constant: 'x' -> 'y'",
	"13 drop: defer f() -> nothing",
	"14 drop case: default: n = 0o600 -> nothing", "15 drop: n = 0o600 -> nothing", "15 constant: 0o600 -> 0o777",
	"17 swap: != -> ==", "17 constant: 0 -> (0+1)",
	"18 zero: n -> *new(int)", "18 zero: f() -> *new(error)",
	"20 constant: 0 -> (0+1)",
}

func TestEachOperatorMakesItsMutants(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(sample), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := mutantsOf(dir, "a.go")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all {
		got = append(got, fmt.Sprintf("%d %s: %s -> %s", m.line, m.what, short(m.old), short(m.text)))
		changed := sample[:m.from] + m.text + sample[m.to:]
		if _, err := parser.ParseFile(token.NewFileSet(), "", changed, 0); err != nil || changed == sample {
			t.Errorf("%v: %v\n%s", m, err, changed)
		}
	}
	for _, w := range wanted {
		if !slices.Contains(got, w) {
			t.Error("missing:", w)
		}
	}
	if len(got) != len(wanted) {
		t.Errorf("%d mutants, want %d: %q", len(got), len(wanted), got)
	}
	for _, m := range all {
		if m.line == 12 && m.what == "swap" && m.at.Line != 11 {
			t.Errorf("coverage is asked for line %d, want that of the switch: %v", m.at.Line, m)
		}
	}
}

func TestAPlaceRunsIfItsBlockDoes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "profile")
	text := "mode: atomic\nminimail/a/b.go:3.10,5.12 2 1\nminimail/a/b.go:5.12,7.3 1 0\nminimail/a/b.go:9.1,9.5 1 0\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := profile{}
	if err := p.read(file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line, col    int
		inside, want bool
	}{{4, 1, true, true}, {5, 11, true, true}, {5, 12, true, false}, {6, 1, true, false}, {8, 1, true, false}, {1, 1, false, true}, {9, 2, true, false}} {
		m := mutant{file: "a/b.go", at: token.Position{Line: c.line, Column: c.col}, inside: c.inside}
		if got := p.runs(m); got != c.want {
			t.Errorf("%d:%d: %v, want %v", c.line, c.col, got, c.want)
		}
	}
	if p.runs(mutant{file: "a/c.go"}) {
		t.Error("a file that nothing runs runs")
	}
}
