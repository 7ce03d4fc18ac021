// Package serve is the life of a minimail, from its start to its end.
package serve

import (
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/rs/zerolog"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/settings"
	"minimail/privdrop"
	"minimail/tunnel/openssh"
)

// A life is what a minimail has, from when it is ready.
type life struct {
	*kept
	s     settings.Settings
	given settings.Given // how it was called
	log   zerolog.Logger
	// written is where log writes to.
	written witness
	tell    *daemon.Teller
	doors   []door
	ssh     *openssh.Client
	asks    atomic.Bool // ssh is being asked what it makes of its settings

	maxWaiting int // clients, for a place
}

// Run is the daemon's life, or the foreground's. If it cannot begin, the clients of
// the service manager's sockets are told why.
func Run(s settings.Settings, tell *daemon.Teller) error {
	// Who reads the log of one in the foreground may leave: Go would end us (os/signal).
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	in := forward.NewInherited()
	spare := spares(in)
	l, err := prepare(s, tell, in)
	if err != nil {
		return apologise(s, tell, spare, err)
	}
	forward.Close(spare)
	defer l.end()
	// There is little garbage, and a daemon's memory counts more than the
	// microseconds that collecting it takes: 1,000 clients take a fifth less.
	debug.SetGCPercent(25)
	return l.attend()
}

// prepare takes the pid file, binds, opens the log, and drops root (or, under
// systemd, the capability to bind). Nothing but that happens as root, and none of
// it in a place of the user's. If a minimail runs that is to be replaced, what it
// has is taken over from it, and it goes on until all of that is done.
func prepare(s settings.Settings, tell *daemon.Teller, in forward.Inherited) (l *life, err error) {
	if err := s.NeedHost(); err != nil {
		return nil, err
	}
	who, err := daemon.ToBecome(s)
	if err != nil {
		return nil, err
	}
	k, err := newKept(s, who)
	if err != nil {
		return nil, err
	}
	l = &life{kept: k, s: s, given: s.Given(), tell: tell, written: witness{File: os.Stderr}}
	defer func() {
		if err != nil {
			l.end()
		}
	}()
	if err := k.lock(); err != nil {
		return l, err
	}
	if k.before != nil {
		tell.Inherit(k.before.Env)
		l.doors, err = bindBeside(s.Forwards, k.before.Doors)
	} else {
		l.doors, err = bind(s.Forwards, in)
	}
	if err != nil {
		return l, err
	}
	l.s.Forwards = asBound(l.doors)
	if err := k.open(); err != nil {
		return l, err
	}
	return l, l.become(who)
}

// become gives root up, and looks what is to be had without.
func (l *life) become(who *user.User) (err error) {
	var dropErr error
	if who != nil {
		if err := privdrop.To(who.Username); err != nil {
			return err
		}
		if err := l.openAsUser(); err != nil {
			return err
		}
	} else { // systemd's, for ports below 1024
		dropErr = privdrop.Capabilities()
	}
	if l.ssh, err = prove(l.s); err != nil {
		return err
	}
	l.log = newLogger(l.s, &l.written)
	tellOfDrop(l.log, who, dropErr)
	if l.controlErr != nil {
		l.log.Warn().Err(l.controlErr).Msg("status will not be able to tell much")
	}
	l.maxWaiting = limitClients(&l.s, l.log)
	return nil
}

// end gives up what prepare has taken.
func (l *life) end() {
	closeDoors(l.doors)
	l.release()
}

func tellOfDrop(log zerolog.Logger, who *user.User, err error) {
	if err != nil {
		log.Warn().Err(err).Msg("keeping the capabilities that it was started with")
	}
	if who != nil {
		groups, _ := os.Getgroups() // privdrop.To has seen that they can be read
		log.Info().Str("user", who.Username).Int("uid", os.Getuid()).Int("gid", os.Getgid()).Ints("groups", groups).
			Msg("dropped privileges")
	}
}
