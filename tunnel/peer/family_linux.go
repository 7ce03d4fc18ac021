package peer

import "slices"

// has reports whether a process belongs to the launch: it is the one that was
// launched; or it is of its group, or descends from it, or was at least started
// with our mark, and its command line asks for our near ends. The ssh of a
// ProxyCommand is all but the last.
func (l *launch) has(p Process) bool {
	if p.PID == l.PID {
		return p.Began == l.Began
	}
	related := p.Group == l.PID || l.bore(p, ProcessOf) || p.Began >= l.Began && slices.Contains(words(p.PID, "environ"), Mark())
	return related && l.asks(p) && ProcessOf(l.PID).Began == l.Began
}

// asks reports whether a process's command line asks for our near ends.
func (l *launch) asks(p Process) bool {
	its := words(p.PID, "cmdline")
	return !slices.ContainsFunc(l.forwards, func(word string) bool { return !slices.Contains(its, word) })
}

// sweep is tunnel's Proof.Sweep: it ends those that were started since with our
// mark, and ask for our near ends. A master that the ssh of a ProxyCommand has left
// for others does not.
func (l *launch) sweep() {
	for _, pid := range everybody() {
		if p := ProcessOf(pid); p.Began >= l.Began && l.asks(p) {
			p.kill(func(kv string) bool { return kv == Mark() })
		}
	}
}

// bore reports whether a process descends from the launched one, as of tells. A
// parent that is younger than its child has got the pid of the true one.
func (l *launch) bore(p Process, of func(pid int) Process) bool {
	for depth := 0; p.Parent > 1 && depth < 64; depth++ {
		if p.Parent == l.PID {
			return true
		}
		parent := of(p.Parent)
		if parent.Name == "" || parent.Began > p.Began {
			return false
		}
		p = parent
	}
	return false
}
