//go:build linux

// Matrix plays each fault of a login with real clients and servers, and
// compares what minimail makes of it with what it is; see scripts/matrix, which
// calls it in namespaces of its own.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"minimail/internal/testbed"
)

// A work is one run: a directory, and what all of its logins share.
type work struct {
	dir  string
	port atomic.Int32 // the last one that was given away
	far  string       // a mail server
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

// newPort is one that nobody had: the network is ours.
func (w *work) newPort() int { return int(w.port.Add(1)) }

func (w *work) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "matrix: "+format+"\n", args...)
	os.Exit(1)
}

func (w *work) must(err error) {
	if err != nil {
		w.Fatalf("%v", err)
	}
}

func (w *work) write(name, text string) { w.must(os.WriteFile(name, []byte(text), 0o644)) }

func (w *work) read(name string) string {
	b, err := os.ReadFile(name)
	w.must(err)
	return string(b)
}

func (w *work) copy(from, to string) { w.write(to, w.read(from)) }

func (w *work) appendTo(name, text string) { w.write(name, w.read(name)+text) }

func (w *work) run(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		w.Fatalf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

// makeKeys are the user's, good and bad ones, and the hosts'.
func (w *work) makeKeys() {
	for _, key := range []string{"key", "other", "third", "hostkey", "otherhostkey", "authority"} {
		w.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", w.path(key))
		if !strings.Contains(key, "host") {
			w.run("chown", "nobody", w.path(key))
		}
	}
	for _, bad := range []string{"open", "locked"} {
		w.run("cp", "-p", w.path("key"), w.path(bad))
		w.copy(w.path("key.pub"), w.path(bad+".pub"))
	}
	w.run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", w.path("locked"))
	w.run("chown", "nobody", w.path("locked"))
	w.run("ssh-keygen", "-q", "-s", w.path("authority"), "-I", "x", "-h", "-n", "other.test", w.path("hostkey.pub"))
	w.must(os.Chmod(w.path("open"), 0o644))
	w.write(w.path("broken"), "-----BEGIN OPENSSH PRIVATE KEY-----\nxxxx\n")
	w.run("chown", "nobody", w.path("broken"))
	w.must(os.Chmod(w.path("broken"), 0o600))
}

// A column is a client and a server.
type column struct{ client, server *tree }

func (w *work) columns(lowers map[string]string, pairs []string) (all []column) {
	trees := map[string]*tree{}
	the := func(name string) *tree {
		if trees[name] == nil {
			kind, in := "sshd", name
			if name == "dropbear" || name == "tinysshd" {
				kind, in = name, "dropbear"
			}
			trees[name] = w.mounted(name, lowers[in], kind)
		}
		return trees[name]
	}
	for _, p := range pairs {
		client, server, _ := strings.Cut(p, ":")
		all = append(all, column{the(client), the(server)})
	}
	return all
}

func main() {
	only := flag.String("f", "", "only the faults whose names match")
	dir := flag.String("d", "", "directory for the work")
	pairs := flag.String("p", "bullseye:bullseye,bookworm:bookworm,trixie:trixie,sid:sid,bullseye:sid,sid:bullseye,bookworm:trixie,sid:dropbear,bookworm:tinysshd", "pairs CLIENT:SERVER")
	jobs := flag.Int("j", 12, "how many at a time")
	flag.Parse()
	w := &work{dir: *dir}
	w.port.Store(20000)
	lowers := map[string]string{}
	for _, root := range flag.Args() {
		lowers[filepath.Base(root)] = root
	}
	w.makeKeys()
	w.must(os.Mkdir(w.path("trees"), 0o755))
	w.must(syscall.Mount("none", w.path("trees"), "tmpfs", 0, "mode=755"))
	sink := w.newPort()
	w.far = fmt.Sprint("127.0.0.1:", sink)
	w.listen(sink, func(c net.Conn) { testbed.SpeakSMTP(c, nil) })
	columns := w.columns(lowers, strings.Split(*pairs, ","))
	wrong := w.table(columns, regexp.MustCompile(*only), *jobs)
	if wrong > 0 {
		fmt.Fprintf(os.Stderr, "matrix: %d are wrong\n", wrong)
		os.Exit(1)
	}
}

// table tries all cells, and prints them, a row for all faults that are alike.
func (w *work) table(columns []column, only *regexp.Regexp, jobs int) (wrong int) {
	fmt.Print("| faults |")
	for _, c := range columns {
		fmt.Printf(" %s %d.%d to %s %s |", c.client.name, c.client.ssh.Major, c.client.ssh.Minor, c.server.name, strings.TrimPrefix(c.server.version, "1:"))
	}
	fmt.Println("\n|---|" + strings.Repeat("---|", len(columns)))
	type row struct {
		name  string
		cells []string
		done  sync.WaitGroup
	}
	var rows []*row
	places := make(chan struct{}, jobs)
	for _, f := range withHops() {
		if !only.MatchString(f.name) {
			continue
		}
		r := &row{name: f.name, cells: make([]string, len(columns))}
		rows = append(rows, r)
		for i, c := range columns {
			if r.cells[i] = f.needs(c.server); r.cells[i] != "" {
				continue
			}
			r.done.Go(func() {
				places <- struct{}{}
				r.cells[i] = w.try(c, f)
				<-places
			})
		}
	}
	var alike []string
	names := map[string][]string{} // of the faults, by their cells
	for _, r := range rows {
		r.done.Wait()
		wrong += strings.Count(strings.Join(r.cells, " "), "WRONG")
		cells := strings.Join(r.cells, " | ")
		if names[cells] == nil {
			alike = append(alike, cells)
		}
		names[cells] = append(names[cells], r.name)
	}
	for _, cells := range alike {
		fmt.Printf("| %s | %s |\n", strings.Join(names[cells], "; "), cells)
	}
	return wrong
}
