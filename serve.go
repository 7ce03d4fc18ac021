package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"

	"minimail/forward"
	"minimail/privdrop"
)

// serve is the daemon's life, or the foreground's: take the pid file, bind,
// open the log, drop root (or, under systemd, the capability to bind), run.
// Nothing but that happens as root.
func serve(s settings, say *notifier) error {
	who, err := toBecome(s)
	if err != nil {
		return err
	}
	pid, err := lockPidFile(s.pidFile)
	if err != nil {
		return alreadyRunning(err)
	}
	defer pid.release()
	doors, err := bind(s.forwards, forward.NewInherited())
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	if !s.foreground {
		if err := openLog(s.logFile, who); err != nil {
			return err
		}
	}
	log := newLogger(s, os.Stderr)
	control, err := listenControl(s.pidFile, who)
	if err != nil {
		log.Warn().Err(err).Msg("status will not be able to tell much")
	}
	if who != nil {
		if err := privdrop.To(who.Username); err != nil {
			return err
		}
		groups, _ := os.Getgroups() // To has seen that they can be read
		log.Info().Str("user", who.Username).Int("uid", os.Getuid()).Int("gid", os.Getgid()).Ints("groups", groups).
			Msg("dropped privileges")
	} else if err := privdrop.Capabilities(); err != nil { // systemd's, for ports below 1024
		log.Warn().Err(err).Msg("keeping the capabilities that it was started with")
	}
	limitClients(&s, log)
	return attend(s, log, doors, control, say)
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
	err = addressError(err)
	switch {
	case errors.Is(err, syscall.EACCES) && os.Geteuid() != 0:
		return cli.Exit(hint(err, "run it with sudo, or --forward %d:%s:%s", otherPort(f.Port), f.Near, f.Far), exitNeedsRoot)
	case errors.Is(err, syscall.EADDRINUSE):
		return hint(err, "sudo ss -ltnp 'sport = :%d' (shows who has it; a mail server?)", f.Port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hint(err, "the BIND of --forward must be an address of this machine: ip address")
	}
	return err
}

// nameSomebody is for root who has nobody to become.
const nameSomebody = "--user NAME, or SUDO_USER=NAME in " + defaultSettings

// toBecome is the user to become, or nil if there is nothing to give up.
func toBecome(s settings) (*user.User, error) {
	root := os.Geteuid() == 0
	if s.user == "" {
		if !root {
			return nil, nil
		}
		return nil, hint(errors.New("no user to become: root has to become somebody else"), nameSomebody)
	}
	who, err := privdrop.Lookup(s.user)
	switch {
	case err != nil:
		return nil, hint(err, "getent passwd (lists the names)")
	case who.Uid == "0":
		return nil, hint(fmt.Errorf("the user to become, %s, is root", s.user), nameSomebody)
	case root:
		return who, nil
	case who.Uid == strconv.Itoa(os.Getuid()):
		return nil, nil
	}
	return nil, cli.Exit(hint(fmt.Errorf("only root can become %s", s.user), "run it with sudo, or without --user"), exitNeedsRoot)
}
