//go:build linux

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// split is the kind of a fault, and what happens to it.
func split(fault string) (kind, how string) {
	kind, how, _ = strings.Cut(fault, " ")
	return kind, how
}

// An arrival is a mail's attempt that is there, and whether it is whole.
type arrival struct {
	mail, attempt int
	whole         bool
}

var soakLine = regexp.MustCompile(`(?m)^X-Soak: (\d+) (\d+) (\d+)\r$`)

func (r *run) arrivals() (all []arrival) {
	files, _ := filepath.Glob(filepath.Join(r.mails, "*.eml"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		r.must(err)
		var a arrival
		var lines int
		if m := soakLine.FindSubmatch(b); m != nil {
			_, _ = fmt.Sscan(string(bytes.Join(m[1:], []byte(" "))), &a.mail, &a.attempt, &lines)
			_, text, _ := bytes.Cut(b, []byte("\r\n\r\n")) // clients put headers in front
			_, want, _ := bytes.Cut(mailOf(a.mail, a.attempt, lines), []byte("\r\n\r\n"))
			a.whole = bytes.Equal(text, want)
		}
		all = append(all, a)
	}
	return all
}

// A fate is what has become of a mail, or of one attempt to send it where each
// has a text of its own.
type fate struct {
	arrived       int
	sent, unclear int // how often its client was told, or not told
	words         []string
}

// fates puts what was told beside what has arrived.
func (r *run) fates(all []arrival) map[[2]int]*fate {
	fates := map[[2]int]*fate{}
	of := func(mail, attempt int) *fate {
		f := fates[[2]int{mail, attempt}]
		if f == nil {
			f = new(fate)
			fates[[2]int{mail, attempt}] = f
		}
		return f
	}
	for _, a := range all {
		of(a.mail, a.attempt).arrived++
	}
	for _, t := range r.told {
		f := of(t.mail, t.attempt)
		switch {
		case t.sent:
			f.sent++
		case t.unclear:
			f.unclear++
		default:
			f.words = append(f.words, t.by+": "+strings.TrimSpace(t.words))
		}
	}
	return fates
}

// report prints what was told beside what has arrived, mail by mail, and returns
// what must not be.
func (r *run) report(seed uint64, road string) (bad []string) {
	all := r.arrivals()
	distinct, damaged, permanent := map[int]bool{}, 0, 0
	for _, a := range all {
		distinct[a.mail] = true
		if !a.whole {
			damaged++
		}
	}
	for _, t := range r.told {
		if t.permanent {
			permanent++
		}
	}
	sent, lost, untrue, unclear, clients := 0, []int(nil), []string(nil), 0, r.byClient()
	for of, f := range r.fates(all) {
		sent += f.sent
		switch known := f.sent + f.unclear; {
		case f.sent > 0 && f.arrived == 0:
			lost = append(lost, of[0])
		case f.arrived > known:
			untrue = append(untrue, fmt.Sprintf("%d %q", of[0], f.words))
		case f.arrived > f.sent:
			unclear += f.arrived - f.sent
		}
	}
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	add(sent != r.count, "%d mails were not accepted", r.count-sent)
	add(len(lost) > 0, "told sent, and lost: %v", lost)
	add(len(untrue) > 0, "told not sent, and arrived: %s", strings.Join(untrue, "; "))
	add(len(distinct) != r.count, "%d mails have not arrived", r.count-len(distinct))
	add(damaged > 0, "%d mails are damaged", damaged)
	add(permanent > 0, "%d attempts were refused for good", permanent)
	add(r.late, "not done in time")
	add(r.after.sockets > r.before.sockets+1, "sockets were not closed: %d, before %d", r.after.sockets, r.before.sockets)
	add(r.after.rss > 2*r.before.rss && r.after.rss > r.before.rss+20480, "memory has grown: %d kB, before %d kB", r.after.rss, r.before.rss)

	row := func(name, format string, args ...any) { fmt.Printf("%-16s %s\n", name, fmt.Sprintf(format, args...)) }
	fmt.Println()
	row("seed", "%d", seed)
	row("link", "%s", road)
	row("time", "%s", time.Since(r.began).Round(time.Second))
	row("sent", "%d of %d; tries: %s", sent, r.count, clients)
	row("arrived", "%d, and %d duplicates", len(distinct), len(all)-len(distinct))
	row("lost", "%d (told sent, not arrived)", len(lost))
	row("untrue", "%d (told not sent, arrived)", len(untrue))
	row("unclear", "%d (told not sent, arrived; the reply to the final dot was lost)", unclear)
	row("damaged", "%d", damaged)
	row("put off", "%d attempts, %d of them for good", len(r.told)-sent, permanent)
	row("faults", "%s", inWords(r.committed))
	row("sockets", "%d before, %d after", r.before.sockets, r.after.sockets)
	row("memory", "%d kB before, %d kB after", r.before.rss, r.after.rss)
	return bad
}

// byClient is how often each kind of client has tried.
func (r *run) byClient() string {
	tries := map[string]int{}
	for _, t := range r.told {
		tries[t.by]++
	}
	return inWords(tries)
}

func inWords(counts map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(all, ", ")
}
