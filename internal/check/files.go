package check

import (
	"errors"
	"io/fs"
	"os/user"
	"strings"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// checkFiles is about the pid file and the log, which start would refuse if
// somebody else could have them written somewhere else. It says nothing if all
// is well, and is asked as root, who can look everywhere.
func (c *checkup) checkFiles(who *user.User) {
	_, err := daemon.PidFilePlace(c.PidFile, who)
	c.addFile(err, broken, c.PidFileNamed)
	if c.LogFile != "" {
		_, err = daemon.LogPlace(c.LogFile, who)
		c.addFile(err, broken, c.LogFile != settings.DefaultLog())
	} else if log := settings.DefaultLog(); log != "" { // a daemon's; in the foreground there is none
		_, err = daemon.LogPlace(log, who)
		c.addFile(err, doubtful, false)
	}
}

// addFile says what is wrong with a file. start makes the directories of the
// default places, which nobody has named.
func (c *checkup) addFile(err error, v verdict, named bool) {
	if err == nil || errors.Is(err, fs.ErrNotExist) && !named {
		return
	}
	fix := fail.HintOf(err)
	if !strings.Contains(fix, " # ") { // no command
		fix = "# " + fix
	}
	c.add("files", v, err.Error(), fix)
}
