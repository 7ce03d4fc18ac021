package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// Restart starts a minimail, in the place of the one that runs if there is one.
func Restart(s settings.Settings, life Life) error {
	return replace(s, life, func() error { return Start(s, life) })
}

// Reload is Restart for one that runs.
func Reload(s settings.Settings, life Life) error {
	return replace(s, life, func() error { return NotRunning(FindPidFile(s)) })
}

// NotRunning is the error that nobody holds a pid file.
func NotRunning(path string) error {
	return fail.Exit(fail.Hint(fmt.Errorf("not running: nobody holds the pid file %s", path), "pgrep -a minimail # shows one that has another pid file; kill PID stops it"), fail.NotRunning)
}

// replace has the new minimail take over from the running one, which goes on
// until that is done. Without one it does what none says.
func replace(s settings.Settings, life Life, none func() error) error {
	switch {
	case Reborn():
		return beDaemon(s, life)
	case serviceRuns(s):
		if _, err := ToBecome(s); err != nil && os.Geteuid() == 0 { // systemd would end the one that runs all the same
			return err
		}
		return WithSudo(s, bySystemd(s, s.Word))
	}
	KeepToOurselves()
	for try := 0; ; try++ {
		path := FindPidFile(s)
		_, pid, running, err := Held(path)
		if err == nil && !running {
			return none()
		}
		if err == nil {
			err = replaceHolder(s, life, path, pid)
		}
		if !errors.Is(err, errLate) || try == maxTries {
			return WithSudo(s, err)
		}
	}
}

// errLate says that the minimail which was to be replaced has been, by somebody
// else, who may not know of the newest settings: the next one is to be replaced.
var errLate = errors.New("others replace it all the time")

// maxTries bounds how often that is done.
const maxTries = 100

// replaceHolder replaces the minimail that holds the pid file.
func replaceHolder(s settings.Settings, life Life, path string, pid int) error {
	late := func() bool {
		_, now, running, err := Held(path)
		return err == nil && running && now != pid
	}
	r, err := askControl(path)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fail.Exit(fail.Hint(fmt.Errorf("cannot %s pid %d: it is not yours", s.Word, pid), "run it with sudo"), fail.NeedsRoot)
	case errors.Is(err, errDeaf):
		return fail.Hint(fmt.Errorf("cannot %s pid %d: %w", s.Word, pid, err), "kill -9 %d; minimail start # with sudo, if it is not yours", pid)
	case (err != nil || r.Stopping) && whoStays(path) != pid: // it was ending, or somebody else was quicker
		return errLate
	case err != nil || !r.Handover:
		return stopAndStart(s, life)
	}
	return succeed(s, life, r, path, late)
}

// stopAndStart is for a minimail that cannot hand over. The settings are proved
// first, as far as that goes.
func stopAndStart(s settings.Settings, life Life) error {
	if _, err := ToBecome(s); err != nil {
		return err
	}
	if err := stopRunning(s); err != nil && fail.Status(err) != fail.NotRunning {
		return err
	}
	s.Word = "start"
	return Start(s, life)
}

// succeed starts the one that takes over from r.
func succeed(s settings.Settings, life Life, r Report, pidFile string, late func() bool) error {
	if r.Foreground && r.Manager == "" {
		return fail.Hint(fmt.Errorf("pid %d runs in the foreground: who has started it there restarts it", r.PID), "minimail stop; minimail start")
	}
	if r.Manager != "" && os.Getenv("MAINPID") != strconv.Itoa(r.PID) { // as in ExecReload=
		return fail.Hint(fmt.Errorf("pid %d is %s's", r.PID, r.Manager), "sudo systemctl %s minimail", s.Word)
	}
	s, err := inherit(s, r, pidFile)
	if err != nil {
		return err
	}
	if _, err := ToBecome(s); err != nil {
		return err
	}
	if s.Foreground && r.Manager == "" {
		return life(s, NewTeller())
	}
	return startDaemon(s, late)
}

// inherit has s know what r was told, unless something else is said now, and
// where its files are.
func inherit(s settings.Settings, r Report, pidFile string) (settings.Settings, error) {
	told := r.Given
	if os.Geteuid() == 0 && !isRoots(pidFile, r.uid) {
		// Who can change the place can answer for it, and root would open any
		// log and bind any port for him.
		fmt.Fprintf(os.Stderr, "minimail: %s is in a place of %s's: what pid %d was told is dropped\n", pidFile, fail.Printable(r.User), r.PID)
		told, r.Given, r.Log = settings.Given{}, settings.Given{}, ""
	}
	if len(s.Said()) > 0 {
		sayDropped(s, r)
		told = settings.Given{}
	}
	like, err := s.Like(told)
	if err == nil && os.Geteuid() == 0 && !becomes(like, r.uid) && len(told.Options)+len(told.Environment) > 0 {
		// Whoever answers for it could name anybody to become.
		fmt.Fprintf(os.Stderr, "minimail: it is to become another user than %s: what pid %d was told is dropped\n", fail.Printable(r.User), r.PID)
		told = settings.Given{}
		like, err = s.Like(told)
	}
	if err != nil {
		return s, err
	}
	if like.PidFile != pidFile {
		told.Options = append(told.Options, "--pid-file="+pidFile)
	}
	if r.Log != "" && !r.LogInFile && !like.Has("log-file") && like.LogFile != r.Log {
		told.Options = append(told.Options, "--log-file="+r.Log)
	}
	return s.Like(told)
}

// isRoots reports whether nobody but root can change what is on the way to a file.
func isRoots(path string, uid int) bool {
	place, err := Find(path, uid)
	return err == nil && !place.Users
}

// sayDropped says which options of the running minimail are not said again.
func sayDropped(s settings.Settings, r Report) {
	var dropped []string
	for _, o := range r.Given.Options {
		name, _, _ := strings.Cut(o, "=")
		if said := s.Said(); !slices.Contains(said, name) && name != "--pid-file" && name != "--settings" {
			dropped = append(dropped, o)
		}
	}
	if len(dropped) > 0 {
		fmt.Printf("minimail: pid %d was started with other options, which are dropped: %s\n", r.PID, fail.Printable(fail.Quote(dropped...)))
	}
}

func becomes(s settings.Settings, uid int) bool {
	who, err := privdrop.Lookup(s.User)
	return err == nil && who.Uid == strconv.Itoa(uid)
}
