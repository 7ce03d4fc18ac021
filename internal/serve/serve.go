// Package serve is the life of a minimail, from its start to its end.
package serve

import (
	"os"
	"os/user"

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
	tell  *daemon.Teller
	doors []door
	// version is ssh's.
	version openssh.Version
}

// Run is the daemon's life, or the foreground's: take the pid file, bind,
// open the log, drop root (or, under systemd, the capability to bind), run.
// Nothing but that happens as root, and none of it in a place of the user's. If a
// minimail runs that is to be replaced, what it has is taken over from it, and it
// goes on until all of that is done.
func Run(s settings.Settings, tell *daemon.Teller) error {
	if err := s.NeedHost(); err != nil {
		return err
	}
	who, err := daemon.ToBecome(s)
	if err != nil {
		return err
	}
	k, err := newKept(s, who)
	if err != nil {
		return err
	}
	defer k.release()
	if err := k.lock(); err != nil {
		return err
	}
	l := &life{kept: k, s: s, given: s.Given(), tell: tell}
	if k.before != nil {
		tell.Inherit(k.before.Env)
		l.doors, err = bindBeside(s.Forwards, k.before.Doors)
	} else {
		l.doors, err = bind(s.Forwards, forward.NewInherited())
	}
	if err != nil {
		return err
	}
	defer closeDoors(l.doors)
	if err := k.open(); err != nil {
		return err
	}
	var dropErr error
	if who != nil {
		if err := privdrop.To(who.Username); err != nil {
			return err
		}
		if err := k.openAsUser(); err != nil {
			return err
		}
	} else { // systemd's, for ports below 1024
		dropErr = privdrop.Capabilities()
	}
	if l.version, err = prove(s); err != nil {
		return err
	}
	l.log = newLogger(s, os.Stderr)
	tellOfDrop(l.log, who, dropErr)
	if k.controlErr != nil {
		l.log.Warn().Err(k.controlErr).Msg("status will not be able to tell much")
	}
	limitClients(&l.s, l.log)
	return l.attend()
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
