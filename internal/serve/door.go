package serve

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/tunnel/peer"
)

// A door is a forward with its bound listeners.
type door struct {
	forward.Spec
	listeners []net.Listener
	passed    bool // by the service manager, who has them as well
}

// bind opens all doors or none; those that the service manager has opened are
// taken over.
func bind(forwards []forward.Spec, in forward.Inherited) (doors []door, err error) {
	defer func() {
		if err != nil {
			closeDoors(doors)
		}
	}()
	for _, f := range forwards {
		ls, err := in.Take(f)
		passed := len(ls) > 0
		if err == nil && !passed {
			ls, err = forward.Listen(f.Binds, f.Port)
		}
		if err != nil {
			return doors, bindError(f, err)
		}
		doors = append(doors, door{f, ls, passed})
	}
	return doors, in.Left()
}

// bindBeside opens all doors or none while another minimail has some of them
// open, which are taken.
func bindBeside(forwards []forward.Spec, theirs []daemon.Door) (doors []door, err error) {
	var bound []net.Listener
	passed := map[string][]net.Listener{}
	for _, d := range theirs {
		if d.Socket == "" {
			bound = append(bound, d.Listener)
		} else {
			passed[d.Socket] = append(passed[d.Socket], d.Listener)
		}
	}
	for _, f := range forwards {
		name := strconv.Itoa(f.Port)
		ls, fromManager := passed[name]
		delete(passed, name)
		if !fromManager {
			ls, err = forward.Listen(f.Binds, f.Port, bound...)
		}
		if err != nil {
			closeDoors(doors)
			return nil, bindError(f, overlaps(f, bound, err))
		}
		doors = append(doors, door{f, ls, fromManager})
	}
	for name := range passed {
		closeDoors(doors)
		return nil, fail.Hint(errors.New("the service manager has bound port "+name+", and no --forward has that PORT"), "sudo systemctl restart minimail")
	}
	for _, l := range bound {
		if !slices.ContainsFunc(doors, func(d door) bool { return slices.Contains(d.listeners, l) }) {
			l.Close() // of a forward that there was
		}
	}
	return doors, nil
}

// overlaps is about an address that is one of those of the other minimail's
// wildcard, or the other way round: the kernel gives it to one of them only.
func overlaps(f forward.Spec, bound []net.Listener, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	for _, l := range bound {
		if a, ok := l.Addr().(*net.TCPAddr); ok && a.Port == f.Port {
			return fail.Hint(fail.Address(err), "minimail stop; minimail start # the one that runs has %s", a)
		}
	}
	return err
}

func closeDoors(doors []door) {
	for _, d := range doors {
		forward.Close(d.listeners)
	}
}

func addresses(doors []door) []string {
	var at []string
	for _, d := range doors {
		for _, l := range d.listeners {
			at = append(at, l.Addr().String())
		}
	}
	return at
}

// asBound are the forwards with the addresses that the service manager has bound,
// which need not be those of the settings.
func asBound(doors []door) (all []forward.Spec) {
	for _, d := range doors {
		if d.passed {
			d.Binds = nil
			for _, l := range d.listeners {
				if a, ok := l.Addr().(*net.TCPAddr); ok {
					d.Binds = append(d.Binds, a.IP.String())
				}
			}
		}
		all = append(all, d.Spec)
	}
	return all
}

// legacy is what the next minimail may take over.
func legacy(doors []door) []daemon.Door {
	var all []daemon.Door
	for _, d := range doors {
		for _, l := range d.listeners {
			socket := ""
			if d.passed {
				socket = strconv.Itoa(d.Port)
			}
			all = append(all, daemon.Door{Listener: l, Socket: socket})
		}
	}
	return all
}

// bindError says what to do about f's port, which cannot be had.
func bindError(f forward.Spec, err error) error {
	err = fail.Address(err)
	switch {
	case errors.Is(err, syscall.EACCES) && os.Geteuid() != 0:
		return fail.Exit(fail.Hint(err, "run it with sudo, or with --forward %d:%s:%s", forward.OtherPort(f.Port), f.Near, f.Far), fail.NeedsRoot)
	case errors.Is(err, syscall.EADDRINUSE):
		if pid := minimailAt(f.Port); pid != 0 {
			return fail.Hint(err, "%s # another minimail, pid %d, serves there", daemon.StopOf(pid), pid)
		}
		return fail.Hint(err, "sudo ss -ltnp 'sport = :%d' # shows who has it: a mail server?", f.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail.Hint(err, "ip address # lists this machine's: one of them has to be the BIND of --forward")
	}
	return err
}

// minimailAt is the pid of a process that runs the same program as we do and has a
// port, or 0 if none is seen there. Anybody can give a process our name.
func minimailAt(port int) int {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return 0
	}
	all, _ := peer.ListenersAt([]int{port})
	for _, l := range all {
		for _, p := range l.Procs {
			its, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.PID))
			if p.PID != os.Getpid() && err == nil && os.SameFile(self, its) {
				return p.PID
			}
		}
	}
	return 0
}
