package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"

	"minimail/internal/fail"
)

// A Predecessor is the minimail that we take over from.
type Predecessor struct {
	Legacy
	PID   int
	wire  *wire
	files []*os.File // the pid file's
	taken bool
}

// errNoHandover is about a minimail that is too old to hand over.
var errNoHandover = errors.New("it is of a version that does not hand over")

// Precede asks the minimail that holds the pid file for its legacy; nil and no
// error: nobody does. The caller closes the Predecessor.
func Precede(pidFile string) (*Predecessor, error) {
	_, _, running, err := Held(pidFile)
	if err != nil || !running {
		return nil, err
	}
	p := &Predecessor{}
	if p.wire, err = ask(pidFile, "handover"); err == nil {
		err = p.inherit(pidFile)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("cannot take over from the running minimail: %w", err)
	}
	return p, nil
}

func (p *Predecessor) inherit(pidFile string) error {
	for {
		i, f, err := p.wire.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errDeaf
		}
		if err != nil {
			return err
		}
		if i.Is == "all" {
			p.PID, p.Env = i.PID, i.Env
			return p.complete(pidFile)
		}
		if f == nil {
			return errNoHandover
		}
		if err := p.accept(i, f, pidFile); err != nil {
			return err
		}
	}
}

// accept takes one item, and its file.
func (p *Predecessor) accept(i item, f *os.File, pidFile string) (err error) {
	switch i.Is {
	case "pid file":
		p.files = append(p.files, f)
		return nil
	case "log":
		p.Log = f
		return nil
	}
	defer f.Close()
	l, err := net.FileListener(f)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", i.Is, err)
	case i.Is == "control":
		p.Control = l
	default:
		p.Doors = append(p.Doors, Door{l, i.Name})
	}
	return nil
}

// complete checks that what has come is what was meant.
func (p *Predecessor) complete(pidFile string) error {
	pid, err := passedOn(pidFile, p.files)
	if err != nil {
		return err
	}
	p.PidFile = pid
	if p.Control == nil {
		return errors.New("it has no control socket")
	}
	return p.wire.conn.SetDeadline(noDeadline)
}

// GiveTo lets who, whom we are about to become, use what the predecessor's user
// could; nil: that is the same one.
func (p *Predecessor) GiveTo(who *user.User) error {
	place, err := FindFor(p.PidFile.path, who)
	if err != nil || place.Users || os.Geteuid() != 0 {
		return err
	}
	return os.Lchown(controlSocket(place.real), place.uid, -1)
}

// Replace says that we are ready to serve at those addresses, and returns when
// the predecessor has let go. The pid file is ours then.
func (p *Predecessor) Replace(serves []string) error {
	err := p.wire.send(item{Is: "ready", PID: os.Getpid(), Serves: serves}, nil)
	if err == nil {
		var answer item
		if answer, _, err = p.wire.receive(); err == nil && answer.Is != "yours" {
			err = errors.New(answer.Is)
		}
	}
	if err != nil {
		return fail.Hint(fmt.Errorf("pid %d has not let go: %w", p.PID, err), "minimail status # tells whether it has ended, or somebody else was quicker")
	}
	p.taken = true
	return p.PidFile.claim(os.Getpid())
}

// Taken reports whether the predecessor has let go.
func (p *Predecessor) Taken() bool { return p.taken }

// Clients calls pass with each client that the predecessor passes on, and where
// it has come to. It returns when the predecessor's ssh has ended; there is nothing
// to be said to it any more then.
func (p *Predecessor) Clients(pass func(at string, client net.Conn)) {
	defer p.wire.conn.Close()
	for {
		i, f, err := p.wire.receive()
		if err != nil {
			return
		}
		if f == nil {
			continue
		}
		c, err := net.FileConn(f)
		f.Close()
		if err == nil {
			pass(i.Name, c)
		}
	}
}

// Hurry has the predecessor leave at once.
func (p *Predecessor) Hurry() {
	if p != nil && p.taken {
		_ = p.wire.send(item{Is: "now"}, nil)
	}
}

// Close ends the matter. Before Replace, the predecessor goes on as if nothing
// had been.
func (p *Predecessor) Close() {
	if p == nil {
		return
	}
	if p.wire != nil {
		p.wire.close()
	}
	if p.taken {
		return
	}
	for _, f := range p.files {
		f.Close()
	}
	if p.Control != nil {
		p.Control.Close()
	}
	for _, d := range p.Doors {
		d.Close()
	}
}
