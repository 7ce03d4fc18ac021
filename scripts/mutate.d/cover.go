//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// A block is a piece of a file that runs as a whole, as Go's coverage has it.
type block struct {
	line, col, endLine, endCol int
}

// before reports whether the block begins before a place, or at it.
func (b block) before(line, col int) bool {
	return b.line < line || b.line == line && b.col <= col
}

func (b block) has(line, col int) bool {
	return b.before(line, col) && (b.endLine > line || b.endLine == line && b.endCol > col)
}

// A profile tells of each file's blocks whether they have run.
type profile map[string]map[block]bool

// read adds what a file of go test -coverprofile has.
func (p profile) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		file, rest, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "minimail/"), ":")
		var b block
		var statements, count int
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.line, &b.col, &b.endLine, &b.endCol, &statements, &count); err != nil || !ok {
			continue // the first line
		}
		if p[file] == nil {
			p[file] = map[block]bool{}
		}
		p[file][b] = p[file][b] || count > 0
	}
	return nil
}

// runs reports whether the place of m has run: the block that has it, or the
// last one before. What is outside of functions runs if anything in its file does.
func (p profile) runs(m mutant) bool {
	var last block
	any := false
	for b, ran := range p[m.file] {
		any = any || ran
		if ran && b.has(m.at.Line, m.at.Column) {
			return true
		}
		if b.before(m.at.Line, m.at.Column) && last.before(b.line, b.col) {
			last = b
		}
	}
	return p[m.file][last] || any && !m.inside
}
