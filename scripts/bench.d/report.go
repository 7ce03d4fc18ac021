//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// table is for a terminal.
func (b *bench) table() string {
	var s strings.Builder
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tminimail\tagainst\tratio\ttarget\tmet")
	for _, r := range b.rows {
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	t.Flush()
	return s.String()
}

func (r *row) cells() []string {
	best, ratio := "", ""
	if b := r.best(); b != nil {
		best, ratio = b.name+": "+r.in.withSpread(b.got), fmt.Sprintf("%.2f", r.ratio())
	}
	return []string{r.what, r.in.withSpread(r.ours), best, ratio, r.bound(), r.verdict()}
}

// The part of docs/benchmarks.md that is ours; what is around it is a person's.
const begin, end = "<!-- scripts/bench writes from here -->\n", "<!-- to here -->\n"

// writeDocs writes the plot, and our part of the page.
func (b *bench) writeDocs(dir string) error {
	page := filepath.Join(dir, "benchmarks.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the lines that say where the results go", page)
	}
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(plot(b.rows)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(page, []byte(before+begin+b.markdown()+end+after), 0o644)
}

func (b *bench) markdown() string {
	var s strings.Builder
	met := 0
	for _, r := range b.rows {
		if r.met() {
			met++
		}
	}
	fmt.Fprintf(&s, `
The numbers are those of the last full run of `+"`scripts/bench`"+`, of %s, %.0f minutes
long. %d of %d rows meet their targets.
`, time.Now().UTC().Format("January 2006"), time.Since(b.began).Minutes(), met, len(b.rows))
	section := ""
	for _, r := range b.rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&s, "\n### %s\n\n| what | minimail | best of the others | ratio | target | met |\n|---|---|---|---|---|---|\n", section)
		}
		fmt.Fprintf(&s, "| %s |\n", strings.Join(r.cells(), " | "))
	}
	b.notes(&s)
	b.everybody(&s)
	fmt.Fprintf(&s, "\n### The machine\n\n%s", machine())
	return s.String()
}

// notes are what the columns have no place for.
func (b *bench) notes(s *strings.Builder) {
	s.WriteString("\n")
	for _, r := range b.rows {
		if r.note != "" {
			fmt.Fprintf(s, "- %s: %s.\n", r.what, r.note)
		}
	}
}

// everybody has the medians of the rows with more than one other side.
func (b *bench) everybody(s *strings.Builder) {
	s.WriteString("\n### All forwarders (medians)\n\n")
	for _, r := range b.rows {
		if len(r.theirs) < 2 {
			continue
		}
		var all []string
		for _, who := range append([]side{{us, r.ours}}, r.theirs...) {
			all = append(all, who.name+" "+r.in.format(who.got.median()))
		}
		fmt.Fprintf(s, "- %s: %s\n", r.what, strings.Join(all, ", "))
	}
}

// machine describes where the numbers are from, without names of hosts or people.
func machine() string {
	cpu := "unknown"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			cpu = strings.Trim(name, "\t :\n")
			break
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	ssh, _ := exec.Command("ssh", "-V").CombinedOutput()
	s := fmt.Sprintf("- CPU: %s, %d cores\n- kernel: %s\n- %s\n- Go: %s\n", cpu, runtime.NumCPU(), strings.TrimSpace(string(kernel)), strings.TrimSpace(string(ssh)), strings.TrimPrefix(runtime.Version(), "go"))
	for _, p := range peers {
		if !installed(p) {
			s += "- not installed, so not compared: " + p.name + "\n"
		}
	}
	return s
}
