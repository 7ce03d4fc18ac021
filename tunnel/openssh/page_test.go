package openssh

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var writePage = flag.Bool("write-page", false, "write the table of docs/messages.md anew")

const page = "../../docs/messages.md"

// pauses are the names that the page has for them.
var pauses = map[string]string{Unclear: "login", Unseen: "short", Early: "early", Hidden: "hidden", Definite: "definite"}

// saidOtherwise are the meanings of lines that mean something else elsewhere, and
// behind which they stand.
var saidOtherwise = []struct {
	means, after Meaning
	text         string
}{
	{MoreWanted, KeyRefused, "the same, after `with partial success`"},
	{OtherWanted, KeyRefused, "the same, without `publickey` among METHODS"},
	{ClosedAnyTime, Closed, "the same, of a ProxyCommand's ssh"},
	{FarSocket, FarRefused, "the same two, of a Unix socket"},
	{JumpBlocked, WaySilent, "`open failed`, of a jump host's ssh"},
	{JumpForbids, WaySilent, "`administratively prohibited`, of a jump host's ssh"},
	{JumpRefused, WaySilent, "`Permission denied (METHODS)`, of a ProxyCommand's ssh"},
}

// table is that of the page: each form, what it means, which pause follows, and
// what to do.
func table() string {
	known := []Meaning{Detail, Partial, Leave} // in the order of the forms
	said := map[Meaning][]string{}
	for _, f := range forms {
		if f.means == Chatter {
			continue
		}
		if !slices.Contains(known, f.means) {
			known = append(known, f.means)
		}
		said[f.means] = append(said[f.means], "`"+f.line+"`")
	}
	for _, s := range saidOtherwise {
		known = slices.Insert(known, slices.Index(known, s.after)+1, s.means)
		said[s.means] = []string{s.text}
	}
	var b strings.Builder
	b.WriteString("| ssh says | it means | pause | what to do |\n|---|---|---|---|\n")
	for _, m := range known {
		words, fixes := m.Advice(Case{Command: Command{Program: "ssh", Host: "HOST"}, Config: Config{"hostname": {"HOST"}, "port": {"PORT"}}, Far: "FARHOST:FARPORT",
			Key: "FILE", Quote: func(words ...string) string { return strings.Join(words, " ") }})
		pause := pauses[meanings[m].failure]
		switch m {
		case Detail:
			words, pause = "why the line that follows is said", ""
		case Partial:
			words, pause = "the host wants more than that", ""
		case Leave:
			words, pause = "the end, for the reason before; without one it is as *Connection closed*", ""
		case LetIn:
			words, pause = "well", ""
		}
		var do []string
		for _, f := range fixes {
			command, remark, _ := strings.Cut(f, "# ")
			if command = strings.TrimSpace(command); command != "" {
				command = "`" + command + "`"
			}
			do = append(do, strings.TrimSpace(command+" "+remark))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.Join(said[m], "<br>"), words, pause, strings.Join(do, "<br>"))
	}
	return b.String()
}

// TestThePageHasEachFormItsMeaningItsPauseAndWhatToDo: with -write-page it has.
func TestThePageHasEachFormItsMeaningItsPauseAndWhatToDo(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "\n| ssh says |")
	_, after, ok2 := strings.Cut(rest, "\n\n")
	if !ok || !ok2 {
		t.Fatal("the page has no such table")
	}
	want := before + "\n" + table() + "\n" + after
	switch {
	case string(text) == want:
	case *writePage:
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("docs/messages.md is not as the forms are: go test ./tunnel/openssh -run ThePageHas -write-page")
	}
}
