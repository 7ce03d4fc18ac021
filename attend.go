package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"minimail/forward"
	"minimail/tunnel"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// attend serves clients until a signal says to stop. The order of the end:
// the doors are closed, clients at work may finish, then ssh is stopped.
// control, which it closes, is where it tells how it is; it may be nil.
func attend(s settings, log zerolog.Logger, doors []door, control net.Listener, say *notifier) error {
	since := time.Now()
	// There is little garbage, and a daemon's memory counts more than the
	// microseconds that collecting it takes: 1,000 clients take a fifth less.
	debug.SetGCPercent(25)
	t := tunnel.New(tunnelConfig(s, log, say)) // before signals are held: it asks ssh something
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	life, end := context.WithCancel(context.Background())
	defer end()
	closed := make(chan struct{})
	go func() { defer close(closed); t.Run(life) }()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	f := newForwarder(s, log)
	served, failed := open(ctx, s, log, doors, t, f)
	if control != nil {
		defer control.Close()
		go answerControl(control, log, func() report { // ends when control is closed
			return report{os.Getpid(), since, userName(), s.host, addresses(doors), newTunnelReport(t.Status()), f.Stats()}
		})
	}
	for _, w := range exposedWarnings(s) {
		log.Warn().Msg(w)
	}
	say.say("READY=1", fmt.Sprintf("MAINPID=%d", os.Getpid()), "STATUS="+running(doors))

	var err error
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP && !hungUp(s):
				say.say("RELOADING=1")
				reload(s, log, t)
				say.say("READY=1", "STATUS="+sentence(t.Status()))
			case ctx.Err() != nil:
				log.Warn().Stringer("signal", sig).Msg("second signal: leaving at once")
				end()
				select { // for ssh to be told, where the kernel does not end it with us
				case <-closed:
				case <-time.After(100 * time.Millisecond):
				}
				return fmt.Errorf("left at once on a second signal (%s)", sig)
			default:
				log.Info().Stringer("signal", sig).Msg("stopping; clients at work may finish")
				say.say("STOPPING=1", "STATUS=stopping; clients at work may finish")
				stop()
			}
		case err = <-failed:
			stop()
		case <-served:
			served = nil
			end()
		case <-closed:
			log.Info().Msg("stopped")
			return err
		}
	}
}

func newForwarder(s settings, log zerolog.Logger) *forward.Forwarder {
	return &forward.Forwarder{
		DialTimeout:  s.wait,
		DrainTimeout: s.drain,
		MaxClients:   s.maxClients,
		Gone:         peer.Gone,
		Log:          log,
	}
}

// An answer says whether the far end is there; nil takes the tunnel's word.
type answer func(context.Context, net.Conn) error

// open starts to serve at every door. served is closed when the last client
// has gone after ctx is done; failed gets the reason if a door breaks.
func open(ctx context.Context, s settings, log zerolog.Logger, doors []door, t *tunnel.Tunnel, f *forward.Forwarder) (served <-chan struct{}, failed <-chan error) {
	var serving sync.WaitGroup
	broken := make(chan error, 1)
	for _, d := range doors {
		accept, answered := f.Serve, answer(nil)
		if d.SMTP {
			accept, answered = f.ServeSMTP, forward.Greeted
		}
		dial := func(ctx context.Context) (net.Conn, error) {
			return t.Dial(ctx, d.Network(), d.Address(), answered)
		}
		for _, l := range d.listeners {
			log.Info().Stringer("at", l.Addr()).Str("far_end", d.Far).Bool("smtp", d.SMTP).Str("host", s.host).Msg("listening")
			serving.Go(func() {
				if err := accept(ctx, l, dial); err != nil {
					select {
					case broken <- fmt.Errorf("cannot serve at %s any more: %w", l.Addr(), err):
					default: // one reason is enough
					}
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { serving.Wait(); close(done) }()
	return done, broken
}

func tunnelConfig(s settings, log zerolog.Logger, say *notifier) tunnel.Config {
	version, err := openssh.AskVersion(s.ssh)
	if err != nil {
		log.Warn().Err(err).Msg("cannot run ssh; trying again when a client comes")
	}
	return tunnel.Config{
		Argv:     sshCommand(s).Argv(version),
		Env:      openssh.Env(),
		Name:     s.host,
		NearEnds: forward.NearEnds(s.forwards),
		Idle:     s.idle,
		Jitter:   s.jitter,
		Trust:    peer.Trust(log),
		Belongs:  peer.Owns,
		Listen:   hear,
		Changed:  func(now tunnel.Status) { say.say("STATUS=" + sentence(now)) },
		Log:      log,
	}
}

// sshCommand is the ssh that makes the tunnel.
func sshCommand(s settings) openssh.Command {
	c := openssh.Command{Program: s.ssh, ConfigFile: s.sshConfig, Options: s.sshOptions, Host: s.host}
	for _, f := range s.forwards {
		c.Forwards = append(c.Forwards, f.Near+":"+f.Far)
	}
	return c
}

// hear tells tunnel what a line of ssh's means for it.
func hear() func(line string) tunnel.Meaning {
	return func(line string) tunnel.Meaning {
		host, in := openssh.LetIn(line)
		return tunnel.Meaning{
			LetIn:   in,
			Host:    host,
			Chatter: openssh.Chatter(line),
			Rejects: openssh.Rejects(line),
			NearEnd: openssh.CannotListen(line),
		}
	}
}

// sentence is a tunnel's status in a line for `systemctl status`.
func sentence(now tunnel.Status) string {
	switch {
	case now.State == tunnel.BackingOff:
		return fmt.Sprintf("tunnel down; the next try is in %s: %v", time.Until(now.Until).Round(time.Second), now.Why)
	case now.State == tunnel.Up && now.Clients == 0:
		return fmt.Sprintf("tunnel up; closes in %s if nobody comes", time.Until(now.Until).Round(time.Second))
	case now.Clients > 0:
		return fmt.Sprintf("tunnel %s; clients: %d", now.State, now.Clients)
	}
	return fmt.Sprintf("tunnel %s", now.State)
}

// running is the sentence of those who start us.
func running(doors []door) string {
	return fmt.Sprintf("minimail runs: pid %d, listening on %s, as user %s", os.Getpid(), strings.Join(addresses(doors), " and "), userName())
}

func addresses(doors []door) []string {
	var at []string
	for _, d := range doors {
		for _, l := range d.listeners {
			at = append(at, l.Addr().String())
		}
	}
	return at
}

// reload is for HUP: what may have changed while nobody told us.
func reload(s settings, log zerolog.Logger, t *tunnel.Tunnel) {
	if !s.foreground {
		if err := openLog(s.logFile, nil); err != nil {
			log.Error().Err(err).Msg("still writing to the old log")
		}
	}
	t.Forget()
	log.Info().Msg("HUP: log reopened, back-off forgotten")
}

// hungUp tells whether a HUP means that our terminal has gone.
func hungUp(s settings) bool {
	return s.foreground && s.onTerminal && !term.IsTerminal(int(os.Stderr.Fd()))
}

func exposedWarnings(s settings) []string {
	var all []string
	for _, f := range s.forwards {
		if f.Exposed() {
			all = append(all, fmt.Sprintf("anybody who reaches %s, port %d, can send mail through %s as you: an open relay",
				strings.Join(f.Binds, " or "), f.Port, s.host))
		}
	}
	return all
}

// limitClients adapts --max-clients to the limit of open files.
func limitClients(s *settings, log zerolog.Logger) {
	limit, err := forward.RaiseFileLimit()
	if err != nil {
		log.Warn().Err(err).Msg("--max-clients may be more than can be served")
		return
	}
	if n := forward.Affordable(s.maxClients, limit); n < s.maxClients {
		log.Warn().Int("max_clients", s.maxClients).Uint64("open_files", limit).Int("served_at_a_time", n).
			Msg("fewer clients than --max-clients can be served at a time: raise the hard limit of open files (ulimit -Hn)")
		s.maxClients = n
	}
}
