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
// open the log, drop root, run. Nothing but that happens as root.
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
	doors, err := bind(s.forwards, newInherited())
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
	}
	limitClients(&s, log)
	return attend(s, log, doors, control, say)
}

// A door is a forward with its bound listeners.
type door struct {
	forwardSpec
	listeners []net.Listener
}

// bind opens all doors or none; those that the service manager has opened are
// taken over.
func bind(forwards []forwardSpec, in inherited) (doors []door, err error) {
	defer func() {
		if err != nil {
			closeDoors(doors)
		}
	}()
	for _, f := range forwards {
		ls, err := in.take(f)
		if err == nil && len(ls) == 0 {
			ls, err = forward.Listen(f.binds, f.port)
		}
		if err != nil {
			return doors, bindError(err)
		}
		doors = append(doors, door{f, ls})
	}
	return doors, in.left()
}

func closeDoors(doors []door) {
	for _, d := range doors {
		forward.Close(d.listeners)
	}
}

// bindError says what to do about a port that cannot be had.
func bindError(err error) error {
	switch {
	case errors.Is(err, syscall.EACCES) && os.Geteuid() != 0:
		return cli.Exit(fmt.Errorf("%w; run it with sudo, or --forward a port from 1024 on", err), exitNeedsRoot)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; is a mail server running? `ss -ltnp` as root shows who has the port", err)
	}
	return err
}

// toBecome is the user to become, or nil if there is nothing to give up.
func toBecome(s settings) (*user.User, error) {
	root := os.Geteuid() == 0
	if s.user == "" {
		if !root {
			return nil, nil
		}
		return nil, errors.New("root has to become somebody else: give --user NAME, or set SUDO_USER in " + defaultSettings)
	}
	who, err := privdrop.Lookup(s.user)
	switch {
	case err != nil:
		return nil, err
	case who.Uid == "0":
		return nil, fmt.Errorf("%s is root: give --user another NAME, or set SUDO_USER in %s", s.user, defaultSettings)
	case root:
		return who, nil
	case who.Uid == strconv.Itoa(os.Getuid()):
		return nil, nil
	}
	return nil, cli.Exit(fmt.Errorf("only root can become %s; run it with sudo", s.user), exitNeedsRoot)
}
