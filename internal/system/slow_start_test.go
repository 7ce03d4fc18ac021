package system

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// slowStart is what start says on stderr besides where its daemon is not ready
// within 8 s, as on a busy machine.
var slowStart = regexp.MustCompile(`(?m)^minimail: still waiting for the daemon, pid \d+, to be ready\nhint: Ctrl-C ends both\n`)

// stderr-lines N fails unless the last command has said so many lines on stderr,
// those of a slow start aside.
func scriptStderrLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stderr-lines N")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	said := slowStart.ReplaceAllString(ts.ReadFile("stderr"), "")
	if got := strings.Count(said, "\n"); got != want || said != "" && !strings.HasSuffix(said, "\n") {
		ts.Fatalf("%d lines on stderr, want %d:\n%s", got, want, said)
	}
}
