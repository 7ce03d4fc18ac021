package system

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// house is which packages a package of the program may import (docs/DESIGN.md).
// What only tests and tools are made of may import anything.
var house = map[string][]string{
	"minimail": {"internal/settings", "internal/daemon", "internal/serve", "internal/check", "internal/fail"},
	"minimail/internal/check": {"internal/settings", "internal/daemon", "internal/fail",
		"tunnel", "tunnel/openssh", "tunnel/peer", "forward", "privdrop"},
	"minimail/internal/serve": {"internal/settings", "internal/daemon", "internal/fail",
		"tunnel", "tunnel/openssh", "tunnel/peer", "forward", "privdrop"},
	"minimail/internal/daemon":   {"internal/settings", "internal/fail", "tunnel", "forward", "privdrop"},
	"minimail/internal/settings": {"internal/fail", "forward"},
	"minimail/tunnel/peer":       {"tunnel"},
	"minimail/internal/fail":     nil,
	"minimail/tunnel":            nil,
	"minimail/tunnel/openssh":    nil,
	"minimail/forward":           nil,
	"minimail/privdrop":          nil,
}

// TestTheWallsStand reads go list: no package imports another one that DESIGN's
// map does not have it import, and there is no package that the map lacks.
func TestTheWallsStand(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "minimail/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := fields[0]
		if isTool(name) {
			continue
		}
		allowed, known := house[name]
		if !known {
			t.Errorf("%s has no place in the house", name)
			continue
		}
		seen++
		for _, to := range fields[1:] {
			if room, ours := strings.CutPrefix(to, "minimail/"); ours && !slices.Contains(allowed, room) {
				t.Errorf("%s must not import %s", name, to)
			}
		}
	}
	if seen != len(house) {
		t.Errorf("%d of the house's %d rooms are there", seen, len(house))
	}
}

// isTool reports whether a package is no part of the program.
func isTool(name string) bool {
	for _, of := range []string{"minimail/internal/testbed", "minimail/internal/system", "minimail/scripts", "minimail/docs"} {
		if name == of || strings.HasPrefix(name, of+"/") {
			return true
		}
	}
	return false
}
