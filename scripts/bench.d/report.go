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
	fmt.Fprintln(t, "what\tminimail\tspread\tagainst\t\tspread\tratio\ttarget\tmet")
	for _, r := range b.rows {
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	t.Flush()
	return s.String()
}

func (r *row) cells() []string {
	name, value, spread, ratio := "", "", "", ""
	if best := r.best(); best != nil {
		name, value, spread = best.name, r.in.format(best.got.median()), r.in.spread(best.got)
		ratio = digits(r.ratio())
	}
	return []string{r.what, r.in.format(r.ours.got.median()), r.in.spread(r.ours.got), name, value, spread, ratio, r.bound(), r.verdict()}
}

// writeDocs writes the report and its plot.
func (b *bench) writeDocs(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(plot(b.rows)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(b.markdown()), 0o644)
}

func (b *bench) markdown() string {
	var s strings.Builder
	met := 0
	for _, r := range b.rows {
		if r.met() {
			met++
		}
	}
	fmt.Fprintf(&s, `# Benchmarks

This page and its picture are written by `+"`scripts/bench`"+`: the numbers are those of its
last full run, of %s, %.0f minutes long. %d of %d rows meet their targets.

![what share of each target is used](benchmarks.svg)

`, time.Now().UTC().Format("January 2006"), time.Since(b.began).Minutes(), met, len(b.rows))
	fmt.Fprint(&s, "| what | minimail | spread | best of the others | | spread | ratio | target | met |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range b.rows {
		fmt.Fprintf(&s, "| %s |\n", strings.Join(r.cells(), " | "))
	}
	s.WriteString(howMeasured)
	b.notes(&s)
	b.everybody(&s)
	fmt.Fprintf(&s, "\n## The machine\n\n%s", machine())
	b.unmet(&s)
	return s.String()
}

const howMeasured = `
Values are medians, spread is from the first quartile to the third. The sides of a row take turns
(A B A B ...), after a round that does not count, so that what else the machine does meets all of them
alike; for the same reason rely on the ratios more than on the times.

- All traffic is on the loopback, through a real sshd and a real ssh where the row says so. The far end is
  a mail server that answers at once. The bare ` + "`ssh -L`" + ` has the same ssh_config as minimail's ssh.
- cold: the bare ssh is started at the same moment as the clock, and its port is tried every 2 ms.
- herd: the clients come at once; minimail's tunnel is down, the bare ssh is up already and has an advantage
  by that. A client is lost that is refused, cut off or not greeted within 6 s; where some are lost, the time
  is that of the last one that was greeted. The target is the cold median plus 1.5 s, and nobody lost.
- forwarder alone: the near end is the far end itself, there is no ssh. Bulk is forwarded with --protocol tcp,
  greetings and replies with --protocol smtp, which the peers know nothing of. haproxy has splice-auto,
  socat buffers of 128 KiB and TCP_NODELAY; nginx and systemd-socket-proxyd are as they come.
- memory: private pages of the daemon's processes (smaps_rollup) with 1,000 greeted clients, less those before
  they came, a fresh daemon each time. Sockets and pipes in the kernel are not in it.
- idle: voluntary context switches of all threads (/proc/PID/task/*/status) of daemons that have served a client,
  after the tunnel has closed.
`

// notes are what the columns have no place for.
func (b *bench) notes(s *strings.Builder) {
	for _, r := range b.rows {
		if r.note != "" {
			fmt.Fprintf(s, "- %s: %s.\n", r.what, r.note)
		}
	}
}

// everybody has the rows with more than one peer in full.
func (b *bench) everybody(s *strings.Builder) {
	s.WriteString("\n## All forwarders\n\n")
	fmt.Fprint(s, "| what | who | median | spread | runs |\n|---|---|---|---|---|\n")
	for _, r := range b.rows {
		if len(r.theirs) < 2 {
			continue
		}
		for _, who := range append([]side{r.ours}, r.theirs...) {
			fmt.Fprintf(s, "| %s | %s | %s | %s | %d |\n", r.what, who.name, r.in.format(who.got.median()), r.in.spread(who.got), len(who.got))
		}
	}
}

func (b *bench) unmet(s *strings.Builder) {
	title := "\n## Targets that are not met, and why\n"
	for _, r := range b.rows {
		if r.met() {
			continue
		}
		why := r.why
		if why == "" {
			why = "Not profiled yet."
		}
		got := r.in.format(r.ours.got.median())
		if r.best() != nil {
			got += ", ratio " + digits(r.ratio())
		}
		fmt.Fprintf(s, "%s\n**%s** (%s, target %s): %s\n", title, r.what, got, r.bound(), why)
		title = ""
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
