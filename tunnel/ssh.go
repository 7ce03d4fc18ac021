package tunnel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopTimeout is how long ssh may take to go after TERM, before KILL.
	stopTimeout = 5 * time.Second
	// lastWords is how long we go on reading what ssh has said when it has
	// gone. Usually the end is there at once; a stray descendant of ssh that
	// keeps the other end of the pipe open must not hold us up.
	lastWords = 100 * time.Millisecond
	// recent is how old a line may be to explain the end of a tunnel that has
	// worked.
	recent = 10 * time.Second
)

// ssh runs the command until it has ended and been reaped. It returns nil if
// ctx ended it, else why it ended: its last line, if it said any.
func (t *Tunnel) ssh(ctx context.Context, l *launch) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p, err := makePipes()
	if err != nil {
		return failure{why: fmt.Errorf("cannot make a pipe for ssh: %w", err), kind: Unseen}
	}
	defer p.close()

	cmd := t.process(ctx, l, p)
	// The parent whose death kills ssh is this thread, not the process: keep
	// it until ssh has ended (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dropAmbient()
	err = cmd.Start()
	p.closeIn()
	if err != nil {
		return failure{why: fmt.Errorf("cannot run %s: %w", l.command.Argv[0], err), kind: Unseen, hopeless: true}
	}
	l.runs(cmd.Process.Pid, t.cfg.Prove) // before it is waited for: its pid is its own
	log := t.cfg.Log.With().Int("pid", cmd.Process.Pid).Logger()
	log.Info().Str("argv", shellWords(l.command.Argv)).Msg("launched ssh")

	heard := make(chan struct{})
	go func() { // ends when ssh's ends of the pipes are closed, or at the deadline below
		defer close(heard)
		t.listen(l, &mouth{f: p.out[0]}, &mouth{f: p.out[1]}, log, stop)
	}()
	gone, followed := make(chan struct{}), make(chan struct{})
	go func() { // ends when gone is closed
		defer close(followed)
		l.wire.follow(cmd.Process.Pid, l, gone)
	}()
	err = cmd.Wait()
	close(gone)
	<-followed
	// Whoever is left of the group has lost its ssh.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if l.proof.Sweep != nil {
		l.proof.Sweep() // and whom a wrapper has detached from it
	}
	if os.Getpid() == 1 {
		reap(cmd.Process.Pid)
	}
	p.hurry()
	<-heard
	return t.whyEnded(ctx, l, err)
}

// process is the command, to be started; ctx's end is its.
func (t *Tunnel) process(ctx context.Context, l *launch, p pipes) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.command.Argv[0], l.command.Argv[1:]...)
	cmd.Env = l.command.Env
	cmd.Stdout, cmd.Stderr = p.in[0], p.in[1]
	cmd.SysProcAttr = childAttributes()
	// ssh leads a process group, so that what it has started (a ProxyCommand)
	// goes with it.
	cmd.Cancel = func() error {
		t.cfg.Log.Info().Int("pid", cmd.Process.Pid).Msg("killing ssh")
		sig := syscall.SIGTERM
		if isLost(context.Cause(ctx)) {
			sig = syscall.SIGKILL // it would take leave over a dead connection
		}
		return syscall.Kill(-cmd.Process.Pid, sig)
	}
	cmd.WaitDelay = t.stopTimeout
	return cmd
}

// reap waits for those of a process group that has been killed who are children
// of ours, as we are everybody's next of kin (init's part, in a container).
func reap(group int) {
	for {
		if _, err := syscall.Wait4(-group, nil, 0, nil); err != nil && err != syscall.EINTR {
			return
		}
	}
}

// whyEnded is nil if ssh was told to go by Run for no fault of its own. ssh's exit
// status says next to nothing (255 for all errors, 0 after TERM), so its words come
// first. Of an ssh that somebody has killed they are not the reason; and whoever
// was let in has done nothing that the host minds.
func (t *Tunnel) whyEnded(ctx context.Context, l *launch, err error) error {
	since := l.began
	if isClosed(l.answered) {
		since = time.Now().Add(-recent)
	}
	f := failure{why: errors.New("ssh ended without a word")}
	if err != nil {
		f.why = fmt.Errorf("ssh ended without a word: %w", err)
	}
	if w := l.wordsSince(since); w.text != "" {
		f = failure{why: errors.New(w.text), kind: w.failure}
	}
	var cause failure
	switch {
	case errors.As(context.Cause(ctx), &cause):
		return cause
	case ctx.Err() != nil:
		return nil
	case isClosed(l.letIn) || isClosed(l.answered):
		f.kind = Unseen
	case signalled(err):
		f.kind = Unclear
	}
	return f
}

// signalled reports whether a process ended by a signal.
func signalled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() < 0
}

// pipes take what ssh says: to its log, its standard output, and, by others, to
// its standard error.
type pipes struct{ out, in [2]*os.File }

func makePipes() (p pipes, err error) {
	for i := range p.out {
		if p.out[i], p.in[i], err = os.Pipe(); err != nil {
			p.close()
			return p, err
		}
	}
	return p, nil
}

// closeIn is for when ssh has its own.
func (p pipes) closeIn() {
	p.in[0].Close() // nil is fine for Close
	p.in[1].Close()
}

func (p pipes) close() {
	p.closeIn()
	p.out[0].Close()
	p.out[1].Close()
}

// hurry has readers end soon.
func (p pipes) hurry() {
	for _, r := range p.out {
		_ = r.SetReadDeadline(time.Now().Add(lastWords))
	}
}

// A mouth is read to its end. If somebody else holds that open when ssh has gone,
// the deadline ends it; but not before what lies there has been taken: the
// reader may not have had a processor since. More than maxLeft is somebody
// else's who goes on.
type mouth struct {
	f    *os.File
	left int // bytes taken after the deadline
}

// maxLeft is what a pipe holds at most, in bytes (pipe(7)).
const maxLeft = 64 << 10

func (m *mouth) Read(b []byte) (n int, err error) {
	if n, err = m.f.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || m.left >= maxLeft {
		return n, err
	}
	raw, rawErr := m.f.SyscallConn()
	if rawErr != nil {
		return 0, err
	}
	_ = raw.Control(func(fd uintptr) { n, rawErr = unix.Read(int(fd), b) }) // the pipe does not block
	if rawErr != nil || n <= 0 {
		return 0, err
	}
	m.left += n
	return n, nil
}

// shellWords is argv as one would type it.
func shellWords(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`*?[]{}()<>|&;~#") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
