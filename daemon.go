package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sevlyar/go-daemon"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"minimail/privdrop"
)

// start is the word: here the foreground, the daemon and whoever starts the
// daemon part.
func start(s settings) error {
	if daemon.WasReborn() {
		return beDaemon(s)
	}
	keepToOurselves()
	err := prepare(s)
	switch {
	case err != nil:
	case s.foreground:
		err = serve(s, newNotifier())
	default:
		err = startDaemon(s)
	}
	return withSudo(s, err)
}

// prepare makes the directories of the default files, and looks whether
// minimail runs already, so that this is said before anything else.
func prepare(s settings) error {
	pidFile := s.pidFile
	if os.Geteuid() == 0 && s.serviceRuns() {
		pidFile = servicePidFile() // what the machine has one of runs already
	}
	if pid := whoStays(pidFile); pid != 0 {
		return alreadyRunning(errRunning{pid})
	}
	files := []string{s.pidFile, s.logFile}
	if s.foreground {
		files = files[:1] // its log is stderr
	}
	for _, f := range files {
		if os.Geteuid() != 0 && filepath.Base(filepath.Dir(f)) == "minimail" {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				return hint(fmt.Errorf("cannot make a place for %s: %w", f, err), "--pid-file FILE --log-file FILE, where you may write")
			}
		}
	}
	return nil
}

// afterKill is how long a process that was killed with -9 may take to vanish.
const afterKill = 500 * time.Millisecond

// whoStays returns the pid in a pid file that is held, or 0 if nobody holds it,
// or whoever did has just gone.
func whoStays(path string) int {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, pid, running, err := held(path)
		if err != nil || !running {
			return 0
		}
		if time.Since(began) > afterKill {
			return pid
		}
	}
}

// slowAfter is when whoever waits for a daemon is told so: one whose log is on a
// file server that is down, say.
const slowAfter = 8 * time.Second

// startDaemon returns when the daemon is ready, or has failed.
func startDaemon(s settings) error {
	watch, err := watchStart()
	if err != nil {
		return err
	}
	defer watch.close()
	for _, w := range exposedWarnings(s) {
		fmt.Fprintln(os.Stderr, "minimail: warning:", w)
	}
	d := daemon.Context{Env: append(os.Environ(), "NOTIFY_SOCKET="+watch.socket()), Umask: 0o022}
	child, err := d.Reborn()
	if child == nil {
		return fmt.Errorf("cannot start the daemon: %w", err)
	}
	slow := time.AfterFunc(slowAfter, func() {
		complain(os.Stderr, hint(fmt.Errorf("still waiting for the daemon, pid %d, to be ready", child.Pid), "Ctrl-C ends both"))
	})
	// An error beside a child means that the child was gone before it had been
	// told all: its own words say more.
	sentence, err := watch.wait(child)
	slow.Stop()
	if err == nil {
		fmt.Println(sentence)
	} else if _, pid, _, _ := held(s.pidFile); pid == child.Pid {
		removeStale(s.pidFile) // it had no time to do so itself
	}
	return err
}

// keepToOurselves has the kernel close what our caller has left open when we
// start a daemon or ssh: a lock of the caller's, say, would be held for days.
func keepToOurselves() {
	open, _ := os.ReadDir("/dev/fd")
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// beDaemon is the other side of startDaemon.
func beDaemon(s settings) error {
	say := newNotifier()
	err := func() error {
		d := daemon.Context{}
		if _, err := d.Reborn(); err != nil {
			return fmt.Errorf("cannot become a daemon: %w", err)
		}
		// What go-daemon has left open and set is not for ssh.
		keepToOurselves()
		os.Unsetenv("_GO_DAEMON")
		if err := os.Chdir("/"); err != nil {
			return fmt.Errorf("cannot leave the directory: %w", err)
		}
		return serve(s, say)
	}()
	if err != nil {
		say.say("STATUS="+err.Error(), "X_HINT="+hintOf(err), fmt.Sprintf("EXIT_STATUS=%d", exitCode(err)))
	}
	return err
}

func alreadyRunning(err error) error {
	if errors.As(err, new(errRunning)) {
		return cli.Exit(hint(err, "minimail status tells more; minimail restart replaces it"), exitAlreadyRunning)
	}
	return err
}

// withSudo turns an error for want of root into a second try through sudo, if
// somebody is there to be asked for a password.
func withSudo(s settings, err error) error {
	if exitCode(err) != exitNeedsRoot || !term.IsTerminal(0) {
		return err
	}
	sudo, lookErr := exec.LookPath("sudo")
	self, exeErr := os.Executable()
	if lookErr != nil || exeErr != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "minimail: this needs root; asking sudo")
	// sudo does not pass our environment on, so settings go as options.
	argv := append([]string{"sudo", "--", self}, s.inv.asOptions()...)
	return fmt.Errorf("%w (sudo: %w)", err, syscall.Exec(sudo, append(argv, s.inv.normalised()...), os.Environ()))
}

// stop is the word.
func stop(s settings) error {
	if s.serviceRuns() {
		return withSudo(s, bySystemd("stop"))
	}
	return withSudo(s, stopRunning(s))
}

// stopRunning ends a running minimail and waits until it is gone.
func stopRunning(s settings) error {
	path := s.findPidFile()
	_, _, running, err := held(path)
	if err != nil {
		return err
	}
	if !running {
		removeStale(path)
		return cli.Exit(hint(fmt.Errorf("not running: nobody holds the pid file %s", path), "pgrep -a minimail shows one that has another --pid-file"), exitNotRunning)
	}
	pid, err := terminate(path)
	if err != nil {
		return err
	}
	if err := waitForEnd(path, pid); err != nil {
		return err
	}
	removeStale(path) // which the daemon has only emptied if it is not root's
	fmt.Printf("minimail is stopped: pid %d\n", pid)
	return nil
}

// waitForEnd returns when the holder of the pid file, which has been told to
// stop, has gone; or with an error if it does not even answer.
func waitForEnd(path string, pid int) error {
	began, said := time.Now(), false
	ask := began.Add(slowAfter)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_, _, running, err := held(path)
		if err != nil || !running {
			return err
		}
		if !said && time.Since(began) > time.Second {
			fmt.Printf("minimail: pid %d lets its clients finish\n", pid)
			said = true
		}
		if time.Now().After(ask) {
			if _, err := askControl(path); errors.Is(err, errDeaf) {
				return hint(fmt.Errorf("cannot stop pid %d: %w", pid, err), "kill -9 %d (with sudo, if it is not yours); its ssh goes with it", pid)
			}
			ask = time.Now().Add(slowAfter)
		}
		time.Sleep(pause)
	}
}

// terminate signals the holder of the pid file, and nobody else: the process is
// pinned (pidfd_open(2), where there is one) before the last look at the lock.
func terminate(path string) (int, error) {
	_, pid, _, err := held(path)
	if err != nil {
		return 0, err
	}
	if pid == 0 || !isMinimail(pid) {
		return 0, hint(fmt.Errorf("minimail runs, but its pid is not in %s", path), "pgrep -a minimail finds it; kill PID stops it")
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, fmt.Errorf("cannot find pid %d: %w", pid, err)
	}
	defer p.Release()
	if _, now, running, err := held(path); err != nil || !running || now != pid {
		return pid, err // gone, or another one: nothing to signal
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		if errors.Is(err, syscall.EPERM) {
			return 0, cli.Exit(hint(fmt.Errorf("cannot stop pid %d: it is not yours", pid), "run it with sudo"), exitNeedsRoot)
		}
		return 0, fmt.Errorf("cannot stop pid %d: %w", pid, err)
	}
	return pid, nil
}

// restart stops minimail if it runs, and starts it.
func restart(s settings) error {
	if daemon.WasReborn() {
		return start(s)
	}
	if s.serviceRuns() {
		return withSudo(s, bySystemd("restart"))
	}
	if err := stopRunning(s); err != nil && exitCode(err) != exitNotRunning {
		return withSudo(s, err)
	}
	return start(s)
}

func userName() string { return privdrop.Name(os.Getuid()) }
