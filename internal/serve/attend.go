package serve

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/settings"
	"minimail/tunnel"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// attend serves clients until a signal says to stop. The order of the end:
// the doors are closed, clients at work may finish, then ssh is stopped.
// control, which it closes, is where it tells how it is; it may be nil.
func attend(s settings.Settings, log zerolog.Logger, doors []door, control net.Listener, tell *daemon.Teller) error {
	since := time.Now()
	// There is little garbage, and a daemon's memory counts more than the
	// microseconds that collecting it takes: 1,000 clients take a fifth less.
	debug.SetGCPercent(25)
	t := tunnel.New(tunnelConfig(s, log, tell)) // before signals are held: it asks ssh something
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
		go daemon.AnswerControl(control, log, func() daemon.Report { // ends when control is closed
			return daemon.Report{
				PID: os.Getpid(), Since: since, User: daemon.UserName(), Host: s.Host,
				Listening: addresses(doors), Tunnel: daemon.NewTunnelReport(t.Status()), Clients: f.Stats(),
			}
		})
	}
	for _, w := range s.Exposed() {
		log.Warn().Msg(w)
	}
	tell.Ready(running(doors))

	var err error
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP && !hungUp(s):
				tell.Reloading()
				reload(s, log, t)
				tell.Ready(sentence(t.Status()))
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
				tell.Stopping("stopping; clients at work may finish")
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

func newForwarder(s settings.Settings, log zerolog.Logger) *forward.Forwarder {
	return &forward.Forwarder{
		DialTimeout:  s.Wait,
		DrainTimeout: s.Drain,
		MaxClients:   s.MaxClients,
		Gone:         peer.Gone,
		Log:          log,
	}
}

// An answer says whether the far end is there; nil takes the tunnel's word.
type answer func(context.Context, net.Conn) error

// open starts to serve at every door. served is closed when the last client
// has gone after ctx is done; failed gets the reason if a door breaks.
func open(ctx context.Context, s settings.Settings, log zerolog.Logger, doors []door, t *tunnel.Tunnel, f *forward.Forwarder) (served <-chan struct{}, failed <-chan error) {
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
			log.Info().Stringer("at", l.Addr()).Str("far_end", d.Far).Bool("smtp", d.SMTP).Str("host", s.Host).Msg("listening")
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

func tunnelConfig(s settings.Settings, log zerolog.Logger, tell *daemon.Teller) tunnel.Config {
	version, err := openssh.AskVersion(s.SSH)
	if err != nil {
		log.Warn().Err(err).Msg("cannot run ssh; trying again when a client comes")
	}
	argv := openssh.Command{Program: s.SSH, ConfigFile: s.SSHConfig, Options: s.SSHOptions, Host: s.Host, Forwards: forward.Lines(s.Forwards)}.Argv(version)
	return tunnel.Config{
		Argv:     argv,
		Env:      append(openssh.Env(), peer.Mark()),
		Name:     s.Host,
		NearEnds: forward.NearEnds(s.Forwards),
		Idle:     s.Idle,
		Jitter:   s.Jitter,
		Prove:    peer.Prover(argv),
		Listen:   hear,
		Changed:  func(now tunnel.Status) { tell.Status(sentence(now)) },
		Log:      log,
	}
}

// hear tells tunnel what the words of one ssh mean for it.
func hear() func(line string, fromLog bool) tunnel.Meaning {
	r := openssh.NewReader(func() bool { return false })
	return func(line string, fromLog bool) tunnel.Meaning { return tunnel.Meaning(r.Read(line, fromLog)) }
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
func reload(s settings.Settings, log zerolog.Logger, t *tunnel.Tunnel) {
	if !s.Foreground {
		if err := openLog(s.LogFile, nil); err != nil {
			log.Error().Err(err).Msg("still writing to the old log")
		}
	}
	t.Forget()
	log.Info().Msg("HUP: log reopened, back-off forgotten")
}

// hungUp tells whether a HUP means that our terminal has gone.
func hungUp(s settings.Settings) bool {
	return s.Foreground && s.OnTerminal && !term.IsTerminal(int(os.Stderr.Fd()))
}

// limitClients adapts --max-clients to the limit of open files.
func limitClients(s *settings.Settings, log zerolog.Logger) {
	limit, err := forward.RaiseFileLimit()
	if err != nil {
		log.Warn().Err(err).Msg("--max-clients may be more than can be served")
		return
	}
	if n := forward.Affordable(s.MaxClients, limit); n < s.MaxClients {
		log.Warn().Int("max_clients", s.MaxClients).Uint64("open_files", limit).Int("served_at_a_time", n).
			Msg("fewer clients than --max-clients can be served at a time: raise the hard limit of open files (ulimit -Hn)")
		s.MaxClients = n
	}
}
