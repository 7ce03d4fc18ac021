package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/tunnel/openssh"
)

// proveTimeout is how long ssh may think about its settings, at start: it runs
// what Match exec says. What takes longer is seen when a client comes.
const proveTimeout = 5 * time.Second

var errStopped = errors.New("stopped by a signal before it was ready")

// prove returns the ssh that makes the tunnel, asked what it makes of ssh_config.
// It refuses what does not mend itself: an ssh that is not there, or one that
// will not run with these settings. A signal ends it, and the ssh that it asks.
func prove(s settings.Settings) (*openssh.Client, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, stopping...)
	ssh, err := ask(s)
	signal.Stop(signals) // waits for one that is on its way
	if len(signals) > 0 {
		return nil, errStopped
	}
	return ssh, err
}

var stopping = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// ask is prove, unless there was a signal: then it returns soon, and anything.
func ask(s settings.Settings) (*openssh.Client, error) {
	ctx, stop := signal.NotifyContext(context.Background(), stopping...)
	defer stop()
	ssh := &openssh.Client{Command: openssh.Command(s.Command()), Env: openssh.Env()}
	var err error
	ssh.Version, err = openssh.AskVersion(ctx, ssh.Env, s.SSH)
	if err := notRun(s.SSH, err); err != nil {
		return nil, err
	}
	if ssh.Version == (openssh.Version{}) || !ssh.Version.AtLeast(6, 8) { // which has no -G
		return ssh, nil
	}
	asking, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	var exit *exec.ExitError
	_, err = ssh.Ask(asking)
	if err := notRun(s.SSH, err); err != nil {
		return nil, err
	}
	if err == nil || asking.Err() != nil || errors.As(err, &exit) {
		return ssh, nil
	}
	return nil, fail.Exit(fail.Hint(fmt.Errorf("ssh does not like its settings: %w", err), "minimail check # tries them one by one"), fail.Usage)
}

// notRun is the error that ssh could not even be run, or nil.
func notRun(ssh string, err error) error {
	if !errors.As(err, new(*exec.Error)) && !errors.As(err, new(syscall.Errno)) {
		return nil
	}
	return fail.Exit(fail.Hint(fmt.Errorf("cannot run ssh: %w", err), "%s", openssh.Cure(fail.Quote(ssh), err)), fail.Usage)
}
