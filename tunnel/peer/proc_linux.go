package peer

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ListenersAt finds those who have ports, with as much about them as the kernel
// tells us (proc(5)): root sees all.
func ListenersAt(ports []int) ([]Listener, error) {
	var all []socket
	for _, port := range ports {
		at, err := socketsAt(port)
		if err != nil {
			return nil, fmt.Errorf("cannot see who listens: %w", err)
		}
		all = append(all, at...)
	}
	return listeners(all)
}

// listeners are those of the sockets that keep others from listening, with the
// processes that have them. If nobody listens, that may be a connection's.
func listeners(sockets []socket) ([]Listener, error) {
	var all []Listener
	var inodes []uint64
	add := func(keeps func(socket) bool) {
		for _, s := range sockets {
			if keeps(s) {
				all = append(all, Listener{At: s.at, UID: s.uid, Inode: s.inode, Deaf: !s.listens()})
				inodes = append(inodes, s.inode)
			}
		}
	}
	add(socket.listens)
	add(func(s socket) bool { return s.state == tcpClosed })
	if len(all) == 0 {
		add(socket.held)
	}
	procs, err := holders(everybody(), inodes...)
	for i := range all {
		all[i].Procs = procs[all[i].Inode]
	}
	return all, err
}

// everybody is the pids of all processes that we can see.
func everybody() []int {
	var all []int
	names, _ := namesIn("/proc")
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// holders are those of the processes that have sockets open, as far as we may
// look into them, by the sockets' inodes. It is an error if we lack what it takes
// to look.
func holders(pids []int, inodes ...uint64) (map[uint64][]Process, error) {
	wanted := map[string]uint64{}
	for _, i := range inodes {
		wanted[fmt.Sprintf("socket:[%d]", i)] = i
	}
	found := map[uint64][]Process{}
	for _, pid := range pids {
		names, err := namesIn(fmt.Sprintf("/proc/%d/fd", pid))
		if isShortage(err) {
			return nil, err
		}
		var its []uint64
		for _, name := range names {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, name))
			if i, ok := wanted[to]; ok && !slices.Contains(its, i) {
				its = append(its, i)
			}
		}
		for _, i := range its {
			if p := ProcessOf(pid); p.Name != "" {
				found[i] = append(found[i], p)
			}
		}
	}
	return found, nil
}

// ProcessOf is the process with that pid.
func ProcessOf(pid int) Process {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return parseStat(pid, string(b))
}

// exiting is the flag of a process that ends (PF_EXITING in linux/sched.h). It has
// that before its connections are closed, and as a zombie.
const exiting = 0x4

// parseStat reads proc_pid_stat(5). The name, which a process chooses itself,
// could look like the end of a name and what follows.
func parseStat(pid int, stat string) Process {
	p := Process{PID: pid}
	begin, end := strings.Index(stat, "("), strings.LastIndex(stat, ") ")
	if begin < 0 || end < begin {
		return p
	}
	f := strings.Fields(stat[end+2:])
	if len(f) < 20 { // from the third field on
		return p
	}
	p.Name = printable(stat[begin+1 : end])
	p.Parent, _ = strconv.Atoi(f[1])
	p.Group, _ = strconv.Atoi(f[2])
	p.Began, _ = strconv.ParseUint(f[19], 10, 64)
	flags, _ := strconv.ParseUint(f[6], 10, 64)
	p.Ends = flags&exiting != 0
	return p
}

// printable is a name without what could do something to a terminal, and never
// empty.
func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(name, "?"))
	if name == "" {
		return "?"
	}
	return name
}

// words are the NUL-terminated strings of a process's cmdline or environ.
func words(pid int, file string) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	return strings.Split(string(b), "\x00")
}
