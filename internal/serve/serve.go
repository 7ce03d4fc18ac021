// Package serve is the life of a minimail, from its start to its end.
package serve

import (
	"errors"
	"net"
	"os"
	"os/user"
	"syscall"

	"github.com/rs/zerolog"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// Run is the daemon's life, or the foreground's: take the pid file, bind,
// open the log, drop root (or, under systemd, the capability to bind), run.
// Nothing but that happens as root, and none of it in a place of the user's.
func Run(s settings.Settings, tell *daemon.Teller) error {
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
	doors, err := bind(s.Forwards, forward.NewInherited())
	if err != nil {
		return err
	}
	defer closeDoors(doors)
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
	log := newLogger(s, os.Stderr)
	tellOfDrop(log, who, dropErr)
	if k.controlErr != nil {
		log.Warn().Err(k.controlErr).Msg("status will not be able to tell much")
	}
	limitClients(&s, log)
	return attend(s, log, doors, k.control, tell)
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

// A door is a forward with its bound listeners.
type door struct {
	forward.Spec
	listeners []net.Listener
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
		if err == nil && len(ls) == 0 {
			ls, err = forward.Listen(f.Binds, f.Port)
		}
		if err != nil {
			return doors, bindError(f, err)
		}
		doors = append(doors, door{f, ls})
	}
	return doors, in.Left()
}

func closeDoors(doors []door) {
	for _, d := range doors {
		forward.Close(d.listeners)
	}
}

// bindError says what to do about f's port, which cannot be had.
func bindError(f forward.Spec, err error) error {
	err = fail.Address(err)
	switch {
	case errors.Is(err, syscall.EACCES) && os.Geteuid() != 0:
		return fail.Exit(fail.Hint(err, "run it with sudo, or with --forward %d:%s:%s", forward.OtherPort(f.Port), f.Near, f.Far), fail.NeedsRoot)
	case errors.Is(err, syscall.EADDRINUSE):
		return fail.Hint(err, "sudo ss -ltnp 'sport = :%d' # shows who has it: a mail server?", f.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail.Hint(err, "ip address # lists this machine's: one of them has to be the BIND of --forward")
	}
	return err
}
