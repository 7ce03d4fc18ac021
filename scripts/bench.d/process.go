//go:build unix

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A world is a directory, and the processes that were started in it.
type world struct {
	dir      string
	programs []program           // ours, and perhaps another one to compare with
	host     string              // as ssh_config calls it
	who      *user.User          // whom all but sshd run as
	as       *syscall.Credential // nil: as we do
	here     place               // where ssh and all before it are
	there    place               // where sshd and the far end are

	*crew
}

// A program is a minimail.
type program struct{ name, path string }

// A place is a machine, of which this one may play several. The zero value is
// this machine, on which all is on the loopback.
type place struct {
	address string
	do      func(f func() error) error // calls f there
}

func (p place) call(f func() error) error {
	if p.do == nil {
		return f()
	}
	return p.do(f)
}

func (p place) ip() string { return cmp.Or(p.address, "127.0.0.1") }

// A crew are the processes of a world.
type crew struct {
	mu    sync.Mutex
	all   []*process
	ended bool
	names int
}

// A process is a program that was started by us.
type process struct {
	cmd  *exec.Cmd
	pid  int
	log  string
	gone chan struct{}
}

// newWorld prepares for processes of an unprivileged user.
func newWorld(dir string, programs ...program) (*world, error) {
	w := &world{dir: dir, programs: programs, host: "provider", crew: new(crew)}
	var err error
	if os.Geteuid() != 0 {
		w.who, err = user.Current()
		return w, err
	}
	if w.who, err = user.Lookup("nobody"); err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(w.who.Uid)
	gid, _ := strconv.Atoi(w.who.Gid)
	w.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return w, os.Chown(dir, uid, gid)
}

// command is argv as the unprivileged user.
func (w *world) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = w.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "LC_ALL=C", "USER=" + w.who.Username}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.as}
	return cmd
}

func (w *world) start(argv ...string) (*process, error) { return w.launch(w.here, w.command(argv...)) }

// launch starts cmd at a place, with a log of its own.
func (w *world) launch(at place, cmd *exec.Cmd) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, errors.New("interrupted")
	}
	w.names++
	p := &process{cmd: cmd, gone: make(chan struct{}), log: w.path(fmt.Sprintf("%d-%s.log", w.names, filepath.Base(cmd.Path)))}
	f, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.Stderr = f
	if err := at.call(cmd.Start); err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	w.all = append(w.all, p)
	go func() { // ends when the process has
		_ = cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// end ends the process: TERM, and KILL for who does not care.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.gone
	}
}

// end ends all, in the opposite order of their starts.
func (c *crew) end() {
	c.mu.Lock()
	c.ended = true
	all := c.all
	c.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i].end()
	}
}

// says waits until the process has written the words n times.
func (p *process) says(words string, n int) error {
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		text, _ := os.ReadFile(p.log)
		if strings.Count(string(text), words) >= n {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("%s has ended:\n%s", filepath.Base(p.cmd.Path), text)
		default:
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%s does not say %q:\n%s", filepath.Base(p.cmd.Path), words, text)
		}
	}
}

// oddities are the last lines of its log but those of clients that were served.
func (p *process) oddities() string {
	text, _ := os.ReadFile(p.log)
	var odd []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "client served") {
			odd = append(odd, line)
		}
	}
	return strings.Join(odd[max(0, len(odd)-12):], "")
}

// freePort is below those that the kernel hands out to clients.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + int(time.Now().UnixNano()/1000%12000)
		l, err := net.Listen("tcp", local(port))
		if err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port found")
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// listening waits until a server is there; it gets a connection by that.
func (w *world) listening(addr string, p *process) error {
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		err := w.here.call(func() error {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s has ended:\n%s", filepath.Base(p.cmd.Path), text)
		default:
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%s does not listen at %s", filepath.Base(p.cmd.Path), addr)
		}
	}
}

// family returns pid and all its descendants.
func family(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		child, _ := strconv.Atoi(strings.Split(name, "/")[2])
		// The name in parentheses may have spaces: proc_pid_stat(5).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// procFields sums up lines of the form "Name: N ..." of a file in /proc.
func procFields(file string, names ...string) (sum int64) {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		for _, name := range names {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// private is the memory, in bytes, that only this process has.
func private(pids []int) (sum int64) {
	for _, pid := range pids {
		sum += 1024 * procFields(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Private_Clean", "Private_Dirty")
	}
	return sum
}

func rss(pid int) int64 { return 1024 * procFields(fmt.Sprintf("/proc/%d/status", pid), "VmRSS") }

// naps is how often the threads of a process have gone to sleep, each of which
// was a wake-up: all threads but Go's monitor (sysmon), and that one. The
// runtime starts the monitor before any other thread, so its id comes second.
func naps(pid int) (own, monitor int64) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	var ids []int
	for _, t := range tasks {
		id, _ := strconv.Atoi(t.Name())
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for i, id := range ids {
		n := procFields(fmt.Sprintf("/proc/%d/task/%d/status", pid, id), "voluntary_ctxt_switches")
		if i == 1 {
			monitor = n
		} else {
			own += n
		}
	}
	return own, monitor
}
