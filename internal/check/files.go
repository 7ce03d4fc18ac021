package check

import (
	"errors"
	"io/fs"
	"os/user"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// checkFiles is about the pid file and the log, which start would refuse if
// somebody else could have them written somewhere else. It says nothing if all
// is well, and is asked as root, who can look everywhere.
func (c *checkup) checkFiles(who *user.User) {
	_, err := daemon.PidFilePlace(c.PidFile, who)
	c.addFile(err, broken)
	log, v := c.LogFile, broken
	if log == "" { // a daemon's; in the foreground there is none
		log, v = settings.DefaultLog(), doubtful
	}
	if log != "" {
		_, err = daemon.LogPlace(log, who)
		c.addFile(err, v)
	}
}

func (c *checkup) addFile(err error, v verdict) {
	// start makes the directories of the default places.
	if err == nil || errors.Is(err, fs.ErrNotExist) && !c.PidFileNamed && c.LogFile == "" {
		return
	}
	c.add("files", v, err.Error(), fail.HintOf(err))
}
