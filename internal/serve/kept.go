package serve

import (
	"net"
	"os/user"

	"minimail/internal/daemon"
	"minimail/internal/settings"
)

// kept are the files that a minimail keeps: the pid file, the control socket
// beside it, and the log. Root opens only those in places that nobody else can
// change; in a place of the user's he opens them himself, that is, root does so
// when it has become him.
type kept struct {
	settings.Settings
	who                *user.User // to become; nil: nobody
	usersPid, usersLog bool

	before     *daemon.Predecessor // to take over from; nil: nobody
	pid        *daemon.PidFile
	control    net.Listener // nil: for controlErr
	controlErr error
}

// newKept looks at all places before anything is done.
func newKept(s settings.Settings, who *user.User) (*kept, error) {
	k := &kept{Settings: s, who: who}
	pid, err := daemon.PidFilePlace(s.PidFile, who)
	if err != nil {
		return nil, err
	}
	k.usersPid = pid.Users && who != nil
	if s.Foreground { // its log is stderr
		return k, nil
	}
	log, err := daemon.LogPlace(s.LogFile, who)
	if err != nil {
		return nil, err
	}
	k.usersLog = log.Users && who != nil
	return k, pid.Apart(log)
}

// lock takes the pid file, unless it is in a place of the user's, or looks for a
// minimail to take over from.
func (k *kept) lock() (err error) {
	if k.Replaces() {
		if k.before, err = daemon.Precede(k.PidFile); err != nil {
			return err
		}
		if k.before == nil && k.Word == "reload" { // it has ended since
			return daemon.NotRunning(k.PidFile)
		}
	}
	if k.usersPid {
		return nil
	}
	return k.takePid()
}

// open opens the rest, except for what is in a place of the user's.
func (k *kept) open() error {
	if !k.usersPid {
		k.listen()
	}
	if k.usersLog {
		return nil
	}
	return k.openLog()
}

// openAsUser opens what was left, as the user that we have become.
func (k *kept) openAsUser() error {
	if k.usersPid {
		if err := k.takePid(); err != nil {
			return err
		}
		k.listen()
	}
	if !k.usersLog {
		return nil
	}
	return k.openLog()
}

func (k *kept) takePid() (err error) {
	if k.before != nil {
		k.pid = k.before.PidFile
		return nil
	}
	k.pid, err = daemon.Lock(k.PidFile, k.who)
	return daemon.AlreadyRunning(err)
}

func (k *kept) listen() {
	if k.before != nil {
		k.control, k.controlErr = k.before.Control, k.before.GiveTo(k.who)
	} else {
		k.control, k.controlErr = daemon.ListenControl(k.PidFile, k.who)
	}
}

func (k *kept) openLog() error {
	switch {
	case k.before != nil && k.before.Log != nil:
		return logTo(k.before.Log)
	case k.Foreground:
		return nil
	}
	return openLog(k.LogFile, k.who)
}

func (k *kept) release() {
	if k.pid != nil && (k.before == nil || k.before.Taken()) {
		k.pid.Release()
	}
	k.before.Close()
}
