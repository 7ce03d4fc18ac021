package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// A service manager that has bound our port keeps it open whatever becomes of us.
// If we cannot serve, its clients are told why, by 421, as long as that is known
// to be true: a client that comes later, or when the settings file is another
// one, is left in the queue, and we end. The service manager starts us again for
// it, with the settings of then.

// freshFor is how long the reason is taken for true.
const freshFor = 5 * time.Second

// Apologise tells the clients of the service manager's sockets why they cannot be
// served. Without such sockets it returns the reason at once.
func Apologise(s settings.Settings, why error) error {
	return apologise(s, daemon.NewTeller(), spares(forward.NewInherited()), why)
}

// spares are listeners at the sockets, beside those that serve.
func spares(in forward.Inherited) (ls []net.Listener) {
	for _, file := range in {
		if l, err := net.FileListener(file); err == nil {
			ls = append(ls, l)
		}
	}
	return ls
}

func apologise(s settings.Settings, tell *daemon.Teller, ls []net.Listener, why error) error {
	if len(ls) == 0 || why == nil || fail.Status(why) == fail.AlreadyRunning {
		return why
	}
	log := newLogger(s, &witness{File: os.Stderr}) // the service manager has it
	log.Error().Err(why).Str("hint", fail.HintOf(why)).Msg("cannot serve: clients are told so")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	end, over := context.WithCancel(ctx)
	defer over()
	if pid, err := daemon.Lock(s.PidFile, nil); err == nil {
		defer pid.Release()
		if control, err := daemon.ListenControl(s.PidFile, nil); err == nil {
			defer control.Close()
			go answerWhy(control, log, ls, why, s.Given(), daemon.Legacy{PidFile: pid, Control: control, Doors: legacyOf(ls), Log: os.Stderr, Env: tell.Env()}, tell, over)
		}
	}
	tell.Ready("cannot serve: " + fail.Printable(why.Error()))
	f := &forward.Forwarder{DialTimeout: time.Second, Log: log, Heir: func(net.Addr) (func(net.Conn), bool) { return nil, true }}
	file := newWatched(s.File())
	var serving sync.WaitGroup
	for _, l := range ls {
		serving.Go(func() {
			defer over()
			_ = f.ServeSMTP(end, &reluctant{l, file}, func(context.Context) (forward.Stream, error) { return nil, why })
		})
	}
	<-end.Done()
	said := make(chan struct{})
	go func() { serving.Wait(); close(said) }()
	select { // for the last ones to read it
	case <-said:
	case <-time.After(2 * pollEvery):
	}
	return nil
}

// pollEvery is how often a listener looks whether it is to end.
const pollEvery = time.Second

// answerWhy answers at the control socket, until that is closed.
func answerWhy(control net.Listener, log zerolog.Logger, ls []net.Listener, why error, given settings.Given, legacy daemon.Legacy, tell *daemon.Teller, over func()) {
	heirs, since := make(chan *daemon.Heir), time.Now()
	go func() {
		for heir := range heirs { // ends with the process
			tell.Replaced(heir.PID)
			if heir.Accept(legacy.PidFile) == nil {
				legacy.PidFile.Forget()
				over()
			}
		}
	}()
	daemon.Control{
		Log: log, Heirs: heirs,
		Legacy: func() daemon.Legacy { return legacy },
		Report: func() daemon.Report {
			return daemon.Report{PID: os.Getpid(), Since: since, User: daemon.UserName(), Problem: why.Error(), Hint: fail.HintOf(why),
				Listening: addresses([]door{{listeners: ls}}), Handover: true, Foreground: true, Manager: tell.Manager(), Given: given}
		},
	}.Answer(control)
}

// A reluctant listener accepts nobody when what is said would not be true any
// more.
type reluctant struct {
	net.Listener
	file *watched
}

func (l *reluctant) Accept() (net.Conn, error) {
	raw, err := l.Listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	for ready := false; !ready; {
		err = raw.Control(func(fd uintptr) {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(pollEvery.Milliseconds()))
			ready = n > 0
		})
		if err != nil {
			return nil, err
		}
	}
	if l.file.changed() || time.Since(l.file.since) > freshFor {
		return nil, net.ErrClosed
	}
	return l.Listener.Accept()
}

// A watched file is compared with what it was.
type watched struct {
	name  string
	since time.Time
	was   os.FileInfo // nil: it was not there
}

func newWatched(name string) *watched {
	was, _ := os.Stat(name)
	return &watched{name, time.Now(), was}
}

func (w *watched) changed() bool {
	is, err := os.Stat(w.name)
	switch {
	case err != nil || w.was == nil:
		return errors.Is(err, os.ErrNotExist) != (w.was == nil)
	case !os.SameFile(is, w.was):
		return true
	}
	return is.Size() != w.was.Size() || !is.ModTime().Equal(w.was.ModTime())
}

// legacyOf are the service manager's sockets as a legacy has them.
func legacyOf(ls []net.Listener) (doors []daemon.Door) {
	for _, l := range ls {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			doors = append(doors, daemon.Door{Listener: l, Socket: strconv.Itoa(a.Port)})
		}
	}
	return doors
}
