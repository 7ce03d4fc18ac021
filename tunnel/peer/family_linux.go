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
	asks := words(p.PID, "cmdline")
	for _, word := range l.forwards {
		if !slices.Contains(asks, word) {
			return false
		}
	}
	related := p.Group == l.PID || l.bore(p, ProcessOf) || p.Began >= l.Began && slices.Contains(words(p.PID, "environ"), Mark())
	return related && ProcessOf(l.PID).Began == l.Began
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
