package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
)

// A Teller is how a minimail tells whoever has started it how it goes: our own
// start, which reads a pipe, or systemd (sd_notify(3)), or nobody.
type Teller struct {
	mu       sync.Mutex
	pipe     *os.File // to start, until we are ready
	socket   string   // systemd's; "": it does not listen
	replaced bool     // we are not the one any more
	stopping bool
}

// NewTeller is for the foreground. The name of systemd's socket is then no
// longer in the environment, so ssh does not get it.
func NewTeller() *Teller {
	t := &Teller{socket: os.Getenv("NOTIFY_SOCKET")}
	os.Unsetenv("NOTIFY_SOCKET")
	return t
}

// Env is what the service manager has told us in our environment, for the next
// one.
func (t *Teller) Env() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.socket == "" {
		return nil
	}
	return []string{t.socket, os.Getenv("JOURNAL_STREAM")}
}

// Manager is who manages us, if that is known; "": nobody.
func (t *Teller) Manager() string {
	if len(t.Env()) > 0 {
		return "systemd"
	}
	return ""
}

// Replaced says that another process is to be managed in our place. Nothing else
// of ours is worth telling then.
func (t *Teller) Replaced(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replaced = false
	t.notify(fmt.Sprintf("MAINPID=%d", pid))
	t.replaced = pid != os.Getpid()
}

// Inherit takes over what Env of the minimail before us has said.
func (t *Teller) Inherit(env []string) {
	if len(env) == 2 {
		t.socket = env[0]
		os.Setenv("JOURNAL_STREAM", env[1])
	}
}

// tellStarter is for the daemon: start has made a pipe its stdout and stderr.
func tellStarter() (*Teller, error) {
	os.Unsetenv("NOTIFY_SOCKET") // our starter's own affair
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the pipe to start: %w", err)
	}
	return &Teller{pipe: os.NewFile(uintptr(fd), "start")}, nil
}

// ready is what a daemon writes in front of its sentence when it is ready. What
// it writes otherwise is why it is not, if it then ends.
const ready = 0x06 // ASCII's acknowledge

// Ready says that clients are served, with a sentence for people.
func (t *Teller) Ready(sentence string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pipe != nil {
		// start may have been killed: that is no matter of ours.
		_, _ = fmt.Fprintf(t.pipe, "%c%s\n", ready, sentence)
		t.pipe.Close()
		t.pipe = nil
	}
	t.notify("READY=1", fmt.Sprintf("MAINPID=%d", os.Getpid()), "STATUS="+sentence)
}

// Status says what we are at.
func (t *Teller) Status(sentence string) { t.say("STATUS=" + sentence) }

// Reloading says that the settings, or what depends on time, are read anew.
func (t *Teller) Reloading() { t.say("RELOADING=1") }

// Stopping says that we are about to end.
func (t *Teller) Stopping(sentence string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
	t.notify("STOPPING=1", "STATUS="+sentence)
}

// IsStopping reports whether that was told.
func (t *Teller) IsStopping() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopping
}

func (t *Teller) say(variables ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notify(variables...)
}

// notify sends variables to systemd. Nobody may be listening.
func (t *Teller) notify(variables ...string) {
	if t.socket == "" || t.replaced {
		return
	}
	// An abstract socket's name begins with @. NetBSD cannot build go-systemd's
	// package for this.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: t.socket, Net: "unixgram"})
	if err != nil {
		t.socket = ""
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(strings.Join(variables, "\n")))
}

// failed tells start why, if it has not been told that we are ready. What is
// said on stderr it hears as well, until the log is there.
func (t *Teller) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pipe == nil {
		return
	}
	if a, errA := t.pipe.Stat(); errA == nil {
		if b, errB := os.Stderr.Stat(); errB == nil && os.SameFile(a, b) {
			return // main prints it
		}
	}
	fail.Print(t.pipe, err)
}

// A starting is start's end of the pipe.
type starting struct {
	words   *os.File
	signals chan os.Signal // that came since, also before there is a daemon
	late    func() bool    // as startDaemon has it
}

// newStarting makes the pipe; the other end of it becomes the daemon's stdout
// and stderr.
func newStarting(late func() bool) (s *starting, daemons *os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe to the daemon: %w", err)
	}
	s = &starting{r, make(chan os.Signal, 1), late}
	signal.Notify(s.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	return s, w, nil
}

func (s *starting) close() {
	signal.Stop(s.signals)
	s.words.Close()
}

// maxWords bounds what a daemon says before it is ready, in bytes.
const maxWords = 64 << 10

// wait returns the daemon's sentence when it is ready. If it fails, what it says
// has been printed, and its exit status is the error's. After an error no daemon
// is left.
func (s *starting) wait(child *os.Process) (sentence string, err error) {
	type word struct {
		said    string
		isReady bool
	}
	heard := make(chan word, 1)
	go func() { // ends when the daemon has ended, or is ready, or s is closed
		said, isReady := listen(s.words)
		heard <- word{said, isReady}
	}()
	select {
	case w := <-heard:
		if w.isReady {
			return w.said, nil
		}
		return "", s.died(child, w.said)
	case sig := <-s.signals:
		_ = syscall.Kill(-child.Pid, syscall.SIGTERM) // go-daemon has made it lead a group
		<-heard
		_, _ = child.Wait()
		return "", errors.New("start was stopped by a signal: " + sig.String())
	}
}

// listen returns the sentence of a daemon that is ready; or, if it has ended
// before, all that it has said. What it says before it is ready (the runtime may
// have a warning) is printed.
func listen(words io.Reader) (said string, isReady bool) {
	r := bufio.NewReader(io.LimitReader(words, maxWords))
	for {
		line, err := r.ReadString('\n')
		if sentence, isReady := strings.CutPrefix(line, string(rune(ready))); isReady {
			tellPerson(said)
			return strings.TrimSpace(sentence), true
		}
		if said += line; err != nil {
			return said, false
		}
	}
}

// tellPerson prints a daemon's lines.
func tellPerson(said string) {
	for line := range strings.Lines(said) {
		fmt.Fprintln(os.Stderr, fail.Printable(strings.TrimRight(line, "\n")))
	}
}

// died passes on what a daemon that could not start has said, unless that is only
// that it was late.
func (s *starting) died(child *os.Process, said string) error {
	state, err := child.Wait()
	if err != nil {
		return fmt.Errorf("cannot wait for the daemon: %w", err)
	}
	if s.late != nil && s.late() {
		return errLate
	}
	tellPerson(said)
	switch {
	case said != "" && os.Getenv("MAINPID") != "": // it was another one's child then
		return fail.Silent(1)
	case said == "" || !state.Exited() || state.ExitCode() == 0:
		return fmt.Errorf("the daemon died before it was ready: %v", state)
	}
	return fail.Silent(state.ExitCode())
}

// slowAfter is when whoever waits for a daemon is told so: one whose log is on a
// file server that is down, say.
const slowAfter = 8 * time.Second
