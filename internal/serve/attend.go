package serve

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/settings"
	"minimail/tunnel"
	"minimail/tunnel/peer"
)

// attend serves clients until a signal says to stop, or another minimail takes
// over. The order of the end: the doors are closed, clients at work may finish,
// then ssh is stopped, and waited for, also that of the minimail before us.
func (l *life) attend() error {
	if l.before != nil { // a signal ends us until it has let go, which may last
		if err := l.before.Replace(addresses(l.doors)); err != nil {
			return err
		}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	var asking sync.WaitGroup
	defer asking.Wait()
	life, end := context.WithCancel(context.Background())
	defer end()
	cfg := l.tunnelConfig()
	cfg.Changed = func(now tunnel.Status) { l.changed(life, now, &asking) }
	t := tunnel.New(cfg)
	closed := make(chan struct{})
	go func() { defer close(closed); t.Run(life) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h := &handing{doors: l.doors}
	f := l.newForwarder(h)
	served, failed, free := l.open(ctx, t, f)
	heirs := l.answer(t, f, free)
	l.ready()
	var err error
	over, freed := (<-chan struct{})(closed), (<-chan struct{})(nil)
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP && !hungUp(l.s):
				l.reload(t)
			case ctx.Err() != nil:
				end()
				return l.leave(sig, closed)
			default:
				l.log.Info().Stringer("signal", sig).Msg("stopping; clients at work may finish")
				l.tell.Stopping("stopping; clients at work may finish")
				stop()
			}
		case heir := <-heirs:
			if ctx.Err() == nil && l.handOver(heir, h) {
				stop()
			} else {
				heir.Close()
			}
		case err = <-failed:
			stop()
		case <-served:
			served = nil
			end()
		case <-over:
			over, freed = nil, free
		case <-freed:
			l.log.Info().Msg("stopped")
			return err
		}
	}
}

// ready says that clients are served.
func (l *life) ready() {
	for _, w := range append(l.s.Exposed(), daemon.Shared(l.s, os.Getuid())...) {
		l.log.Warn().Msg(w)
	}
	l.tell.Ready(l.running())
}

// leave is for a second signal. It waits a moment for ssh to be told, which the
// kernel does not end with us everywhere.
func (l *life) leave(sig os.Signal, closed <-chan struct{}) error {
	l.log.Warn().Stringer("signal", sig).Msg("second signal: leaving at once")
	l.before.Hurry()
	select {
	case <-closed:
	case <-time.After(100 * time.Millisecond):
	}
	return fmt.Errorf("left at once on a second signal (%s)", sig)
}

func (l *life) newForwarder(h *handing) *forward.Forwarder {
	return &forward.Forwarder{
		DialTimeout:  l.s.Wait,
		DrainTimeout: l.s.Drain,
		MaxClients:   l.s.MaxClients,
		MaxWaiting:   l.maxWaiting,
		Owner:        peer.Owner,
		Gone:         peer.Gone,
		Heir:         h.heir,
		Log:          l.log,
	}
}

// What tunnel hands out is what forward asks for.
var _ forward.Lease = (*tunnel.Conn)(nil)

// An answer reports whether the far end is there; nil takes the tunnel's word.
type answer func(context.Context, net.Conn) error

// open starts to serve at every door. served is closed when the last client
// has gone after ctx is done; failed gets the reason if a door breaks; free is
// closed when the near ends are, which the minimail before us may still have.
func (l *life) open(ctx context.Context, t *tunnel.Tunnel, f *forward.Forwarder) (served <-chan struct{}, failed <-chan error, free <-chan struct{}) {
	var serving sync.WaitGroup
	broken := make(chan error, 1)
	passed, free := l.passedOn()
	for _, d := range l.doors {
		accept, answered := f.Serve, answer(nil)
		if d.SMTP {
			accept, answered = f.ServeSMTP, forward.Greeted
		}
		dial := func(ctx context.Context) (forward.Stream, error) {
			if err := l.waitFor(ctx, free); err != nil {
				return nil, err
			}
			return t.Dial(ctx, d.Network(), d.Address(), answered)
		}
		for _, at := range d.listeners {
			l.log.Info().Stringer("at", at.Addr()).Str("far_end", d.Far).Bool("smtp", d.SMTP).Str("host", l.s.Host).Msg("listening")
			serve := func(at net.Listener) {
				if err := accept(ctx, at, dial); err != nil {
					select {
					case broken <- fmt.Errorf("cannot serve at %s any more: %w", at.Addr(), err):
					default: // one reason is enough
					}
				}
			}
			serving.Go(func() { serve(at) })
			if p := passed[at.Addr().String()]; p != nil {
				serving.Go(func() { _ = accept(ctx, p, dial) }) // until it is closed
			}
		}
	}
	done := make(chan struct{})
	go func() { serving.Wait(); close(done) }()
	return done, broken, free
}

func (l *life) tunnelConfig() tunnel.Config {
	s, ssh := l.s, l.ssh
	return tunnel.Config{
		Command: func() tunnel.Command {
			return tunnel.Command{Argv: ssh.Argv(), Env: append(slices.Clip(ssh.Env), peer.Mark()), Probe: ssh.Probe()}
		},
		Name:     s.Host,
		NearEnds: forward.NearEnds(s.Forwards),
		Idle:     s.Idle,
		Jitter:   s.Jitter,
		Prove:    peer.Prover(ssh.Argv()),
		Listen: func() func(string, bool) tunnel.Meaning {
			r := ssh.NewReader()
			return func(line string, fromLog bool) tunnel.Meaning { return tunnel.Meaning(r.Read(line, fromLog)) }
		},
		Log: l.log,
	}
}

// askAfter is how long there must have been no tunnel for ssh to be asked again: the
// next client may come at once, and would share the processor with the answer.
const askAfter = 10 * time.Second

// changed tells how the tunnel is. When there is none, ssh is asked whether
// ssh_config has changed; asking waits for the end of that.
func (l *life) changed(ctx context.Context, now tunnel.Status, asking *sync.WaitGroup) {
	l.tell.Status(sentence(now))
	if (now.State != tunnel.Down && now.State != tunnel.BackingOff) || !l.asks.CompareAndSwap(false, true) {
		return
	}
	asking.Go(func() { // ends with ctx, or ten seconds after askAfter
		defer l.asks.Store(false)
		select {
		case <-time.After(askAfter):
			_, _ = l.ssh.Ask(ctx) // if it cannot be, what is known stays
		case <-ctx.Done():
		}
	})
}

// reload is for HUP: what may have changed while nobody told us.
func (l *life) reload(t *tunnel.Tunnel) {
	l.tell.Reloading()
	done := "HUP: back-off forgotten"
	if !l.s.Foreground {
		if err := openLog(l.s.LogFile, nil); err != nil {
			l.log.Error().Err(err).Msg("still writing to the old log")
		} else {
			done = "HUP: log reopened, back-off forgotten"
		}
	}
	t.Forget()
	l.log.Info().Msg(done)
	l.tell.Ready(sentence(t.Status()))
}

// hungUp reports whether a HUP means that our terminal has gone.
func hungUp(s settings.Settings) bool {
	return s.Foreground && s.OnTerminal && !term.IsTerminal(int(os.Stderr.Fd()))
}

// limitClients adapts --max-clients to the limit of open files, and returns how
// many may wait beside them.
func limitClients(s *settings.Settings, log zerolog.Logger) (maxWaiting int) {
	limit, err := forward.RaiseFileLimit()
	if err != nil {
		log.Warn().Err(err).Msg("--max-clients may be more than can be served")
		return s.MaxClients
	}
	if n := forward.Affordable(s.MaxClients, limit); n < s.MaxClients {
		log.Warn().Int("max_clients", s.MaxClients).Uint64("open_files", limit).Int("served_at_a_time", n).
			Msg("fewer clients than --max-clients can be served at a time: raise the hard limit of open files (ulimit -Hn)")
		s.MaxClients = n
	}
	return forward.RoomFor(s.MaxClients, limit)
}
