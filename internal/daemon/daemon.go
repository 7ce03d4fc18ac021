// Package daemon starts, stops and restarts the daemon, and tells how it is.
package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sevlyar/go-daemon"
	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// A Life is what a minimail does between its start and its end: serve.Run.
type Life func(s settings.Settings, tell *Teller) error

// Start is the word: in the foreground, as whoever starts the daemon, and as the
// daemon itself.
func Start(s settings.Settings, life Life) error {
	if Reborn() {
		return beDaemon(s, life)
	}
	if s.Foreground && os.Getpid() == 1 {
		return asInit()
	}
	KeepToOurselves()
	err := prepare(s)
	switch {
	case err != nil:
	case isService(s):
		err = bySystemd(s, "start")
	case s.Foreground:
		err = life(s, NewTeller())
	default:
		err = startDaemon(s, nil)
	}
	return WithSudo(s, err)
}

// prepare makes the directories of the default files, and looks whether
// minimail runs already, so that this is said before anything else.
func prepare(s settings.Settings) error {
	pidFile := ownPidFile(s)
	if os.Geteuid() == 0 && serviceRuns(s) {
		pidFile = servicePidFile() // what the machine has one of runs already
	}
	if pid := whoStays(pidFile); pid != 0 {
		return AlreadyRunning(ErrRunning{pid})
	}
	warnOfShared(s)
	files := []string{s.PidFile, s.LogFile}
	if s.Foreground {
		files = files[:1] // its log is stderr
	}
	for _, f := range files {
		if os.Geteuid() != 0 && filepath.Base(filepath.Dir(f)) == "minimail" {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				return fail.Hint(fmt.Errorf("cannot make a place for %s: %w", f, err), "--pid-file FILE --log-file FILE, where you may write")
			}
		}
	}
	return nil
}

// afterKill is how long a process that was killed may take to vanish. One that has
// had no processor since may take longer: it does not answer, but hangs up then.
const afterKill = 500 * time.Millisecond

// whoStays returns the pid in a pid file that is held, or 0 if nobody holds it,
// or whoever did has just gone: one that is stopping is waited for.
func whoStays(path string) int {
	limit := 4 * afterKill
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		waited := time.Since(began)
		_, pid, running, err := Held(path)
		if err != nil || !running {
			return 0
		}
		if waited < afterKill {
			continue // also one that answers may have been told to go
		}
		r, err := askControl(path)
		if r.Stopping {
			limit = slowAfter
		}
		if err == nil && !r.Stopping || errors.Is(err, errDeaf) || waited > limit {
			return pid
		}
	}
}

// startDaemon returns when the daemon is ready, or has failed. One that replaces
// another takes the pid file over, and leaves it where it is if it fails; late
// reports whether somebody else has done so before (nil: it replaces nobody).
func startDaemon(s settings.Settings, late func() bool) error {
	start, daemons, err := newStarting(late)
	if err != nil {
		return err
	}
	defer start.close()
	child, err := launch(s, daemons)
	if err != nil {
		daemons.Close()
		return err
	}
	slow := time.AfterFunc(slowAfter, func() {
		fail.Print(os.Stderr, fail.Hint(fmt.Errorf("still waiting for the daemon, pid %d, to be ready", child.Pid), "Ctrl-C ends both"))
	})
	sentence, err := start.wait(child)
	slow.Stop()
	if err == nil {
		fmt.Println(fail.Printable(sentence))
	} else if _, pid, running, _ := Held(s.PidFile); !running && (pid == child.Pid || pid == 0) && late == nil {
		removeStale(s.PidFile) // it had no time to do so itself, or was not root any more
	}
	return err
}

// launch starts the daemon; out becomes its stdout and stderr, and is closed here.
func launch(s settings.Settings, out *os.File) (*os.Process, error) {
	stdout := os.Stdout
	os.Stdout = out // go-daemon hands it on
	d := daemon.Context{LogFileName: "/dev/stdout", Umask: 0o022, Args: append([]string{os.Args[0]}, s.Args()...)}
	child, err := d.Reborn()
	os.Stdout = stdout
	if child == nil {
		return nil, fmt.Errorf("cannot start the daemon: %w", err)
	}
	// An error beside a child means that the child was gone before it had been
	// told all: its own words say more.
	return child, nil
}

// KeepToOurselves has the kernel close what our caller has left open when we
// start a daemon or ssh: a lock of the caller's, say, would be held for days.
func KeepToOurselves() {
	open, _ := os.ReadDir("/dev/fd")
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// beDaemon is the other side of startDaemon.
func beDaemon(s settings.Settings, life Life) error {
	tell, err := tellStarter()
	if err != nil {
		return err
	}
	if err = leaveStarter(); err == nil && os.Getenv("MAINPID") != "" {
		return leaveToManager(s)
	}
	if err == nil {
		err = life(s, tell)
	}
	if err != nil {
		tell.failed(fail.Rehint(err, s.Given().Again))
	}
	return err
}

// leaveStarter makes this process a daemon.
func leaveStarter() error {
	d := daemon.Context{}
	if _, err := d.Reborn(); err != nil {
		return fmt.Errorf("cannot become a daemon: %w", err)
	}
	os.Unsetenv("_GO_DAEMON") // it is not for ssh
	waitForManager()
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("cannot leave the directory: %w", err)
	}
	return nil
}

// AlreadyRunning gives the error that says so its exit status.
func AlreadyRunning(err error) error {
	if errors.As(err, new(ErrRunning)) {
		return fail.Exit(fail.Hint(err, "minimail status # tells more; minimail restart replaces it"), fail.AlreadyRunning)
	}
	return err
}

// Stop is the word.
func Stop(s settings.Settings) error {
	if serviceRuns(s) {
		return WithSudo(s, bySystemd(s, "stop"))
	}
	return WithSudo(s, stopRunning(s))
}

// stopRunning ends a running minimail and waits until it is gone.
func stopRunning(s settings.Settings) error {
	path := FindPidFile(s)
	_, _, running, err := Held(path)
	if err != nil {
		return err
	}
	if !running {
		removeStale(path)
		return NotRunning(path)
	}
	pid, err := terminate(path)
	if err != nil {
		return err
	}
	if pid, err = waitForEnd(path, pid); err != nil {
		return err
	}
	removeStale(path) // which the daemon has only emptied if it is not root's
	fmt.Printf("minimail is stopped: pid %d\n", pid)
	return nil
}

// waitForEnd returns when the holder of the pid file, which has been told to
// stop, has gone, and who that was; or with an error if it does not even answer,
// or, twice in a row, not as minimail does: its control socket goes a little
// before it. One that has taken over meanwhile is told to stop as well.
func waitForEnd(path string, pid int) (last int, err error) {
	began, said, failed := time.Now(), false, 0
	ask := began.Add(slowAfter)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_, now, running, err := Held(path)
		if err == nil && running && now != pid {
			pid, err = terminate(path)
		}
		if err != nil || !running {
			return pid, err
		}
		if !said && time.Since(began) > time.Second {
			said = true
			switch r, err := askControl(path); {
			case r.Clients.Working > 0:
				fmt.Printf("minimail: pid %d lets its clients finish\n", pid)
			case err != nil && time.Since(began) < slowAfter/2: // it may be about to end
				said = false
			case err != nil:
				fmt.Printf("minimail: waiting for pid %d to end\n", pid)
			}
		}
		if time.Now().After(ask) {
			_, err := askControl(path)
			if failed++; err == nil {
				failed = 0
			}
			if errors.Is(err, errDeaf) || failed > 1 {
				return pid, fail.Hint(fmt.Errorf("cannot stop pid %d: %w", pid, err), "kill -9 %d # with sudo, if it is not yours; its ssh goes with it", pid)
			}
			ask = time.Now().Add(slowAfter)
		}
		time.Sleep(pause)
	}
}

// terminate signals the holder of the pid file, and nobody else: the process is
// pinned (pidfd_open(2), where there is one) before the last look at the lock.
func terminate(path string) (int, error) {
	_, pid, _, err := Held(path)
	if err != nil {
		return 0, err
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, fmt.Errorf("cannot find pid %d: %w", pid, err)
	}
	defer p.Release()
	if _, now, running, err := Held(path); err != nil || !running || now != pid {
		return pid, err // gone, or another one: nothing to signal
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		if errors.Is(err, syscall.EPERM) {
			return 0, fail.Exit(fail.Hint(fmt.Errorf("cannot stop pid %d: it is not yours", pid), "run it with sudo"), fail.NeedsRoot)
		}
		return 0, fmt.Errorf("cannot stop pid %d: %w", pid, err)
	}
	return pid, nil
}

// Reborn reports whether this process is a daemon that another one has started.
func Reborn() bool { return daemon.WasReborn() }
