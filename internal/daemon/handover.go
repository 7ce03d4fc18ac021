package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// A restart starts the new minimail first. Over the control socket it gets what
// the running one, its predecessor, holds: the pid file with its lock, the
// control socket, the listening sockets. When it is ready to serve it says so,
// and only then the predecessor lets go: it accepts nobody any more, passes on
// the clients that still wait, and lets those at work finish. It hangs up when
// its ssh has ended. Until then nothing has changed for it.

// A Legacy is what a minimail has to hand on.
type Legacy struct {
	PidFile *PidFile
	Control net.Listener
	Doors   []Door
	Log     *os.File // nil: a file, which the next one opens by itself
	Env     []string // what the service manager has told us, NAME=value
}

// A Door is a listening socket. Socket is what the service manager calls it, if
// it has passed it to us.
type Door struct {
	net.Listener
	Socket string
}

// A filer has a descriptor to duplicate.
type filer interface{ File() (*os.File, error) }

// offer sends all of it.
func (l Legacy) offer(w *wire) error {
	var err error
	for _, f := range l.PidFile.files() {
		err = errors.Join(err, w.send(item{Is: "pid file"}, f))
	}
	for _, d := range l.Doors {
		err = errors.Join(err, w.duplicate(item{Is: "door", Name: d.Socket}, d.Listener))
	}
	err = errors.Join(err, w.duplicate(item{Is: "control"}, l.Control))
	if l.Log != nil {
		err = errors.Join(err, w.send(item{Is: "log"}, l.Log))
	}
	if err != nil {
		return err
	}
	return w.send(item{Is: "all", PID: os.Getpid(), Env: l.Env}, nil)
}

// duplicate sends a socket of ours, which stays ours.
func (w *wire) duplicate(i item, socket any) error {
	has, ok := socket.(filer)
	if !ok {
		return fmt.Errorf("a %T cannot be passed on", socket)
	}
	f, err := has.File()
	if err != nil {
		return err
	}
	defer f.Close()
	return w.send(i, f)
}

// An Heir is the minimail that takes over from us.
type Heir struct {
	PID    int
	wire   *wire
	serves map[string]bool
}

// bequeath offers what we have to whoever has asked for it, and returns the heir
// when it is ready to serve. Until Accept is called, nothing is given away.
func bequeath(w *wire, l Legacy) (*Heir, error) {
	if err := l.offer(w); err != nil {
		return nil, fmt.Errorf("cannot pass on what it needs: %w", err)
	}
	ready, _, err := w.receive()
	if err != nil || ready.Is != "ready" || w.hungUp() {
		return nil, errors.New("it has given up, or died")
	}
	h := &Heir{PID: ready.PID, wire: w, serves: map[string]bool{}}
	for _, at := range ready.Serves {
		h.serves[at] = true
	}
	return h, nil
}

// Accept lets the heir begin. Its pid is in the pid file from now on: we may have
// ended before it can write it.
func (h *Heir) Accept(p *PidFile) error {
	err := p.claim(h.PID)
	if err == nil {
		err = h.wire.send(item{Is: "yours"}, nil)
	}
	if err != nil {
		_ = p.claim(os.Getpid())
	}
	return err
}

// Serves reports whether the heir serves a listener of ours.
func (h *Heir) Serves(at net.Addr) bool { return h.serves[at.String()] }

// Pass gives a client of the listener at that address to the heir, and closes it
// here.
func (h *Heir) Pass(at net.Addr, client net.Conn) error {
	defer client.Close()
	return h.wire.duplicate(item{Is: "client", Name: at.String()}, client)
}

// Hears calls hurry if the heir is told to leave at once. It returns when the
// heir has ended, or Close was called.
func (h *Heir) Hears(hurry func()) {
	for {
		i, f, err := h.wire.receive()
		if err != nil {
			return
		}
		if f != nil {
			f.Close()
		}
		if i.Is == "now" {
			hurry()
		}
	}
}

// Close tells the heir that our ssh has ended. It may begin with its own.
func (h *Heir) Close() { h.wire.close() }
