package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// dialTakes is how long the fake near end takes to accept or refuse. It is not
// zero so that a launch of the same instant has got as far as it can.
const dialTakes = time.Millisecond

// never is longer than any test, and short enough that a client that tries all
// the time comes to its end.
const never = 30 * time.Hour

// A life is what one launch of the fake ssh does, and then what it did. The
// zero value answers at once, stays, and goes as soon as it is told.
type life struct {
	starts    time.Duration // it has a pid after this long
	ready     time.Duration // it answers after this long
	letIn     time.Duration // it says that the host has let it in after this long; 0: it does not
	lasts     time.Duration // it ends by itself after this long; 0: it does not
	why       error         // of ending by itself
	stopTakes time.Duration // from being told to its end
	dies      time.Duration // after this long its connection to the host is dead; 0: it does not
	freezes   time.Duration // after this long the host's sshd stands still; 0: it does not

	l                  *launch
	began, told, ended time.Time // zero: not yet
	die                chan error
	open               int // connections
}

// A tester is what *testing.T and *rapid.T have in common here.
type tester interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
	Cleanup(func())
}

// A world is a running tunnel in a synctest bubble whose ssh and near end are
// fakes. It ends with the test; the bubble fails if anything is left.
type world struct {
	*Tunnel
	t       tester
	stopRun context.CancelFunc

	mu       sync.Mutex
	plan     func(n int) life // what launch n (from 0) will do
	lives    []*life
	clients  []*client
	waiting  int       // clients that dial
	waited   time.Time // when one of them was last done with it
	dialing  int
	tries    int
	dialed   int // the most at a time
	stopping bool
}

func newWorld(t tester, cfg Config, lives ...life) *world {
	if cfg.Name == "" {
		cfg.Name = "far"
	}
	if cfg.Command == nil {
		cfg.Command = func() Command { return Command{} }
	}
	w := &world{Tunnel: New(cfg), t: t}
	w.plan = func(n int) life {
		if n < len(lives) {
			return lives[n]
		}
		return life{}
	}
	w.run, w.dial = w.ssh, w.near
	w.Tunnel.signs = w.signsOf
	ctx, stop := context.WithCancel(context.Background())
	w.stopRun = func() {
		w.mu.Lock()
		w.stopping = true
		w.mu.Unlock()
		stop()
	}
	go w.Run(ctx)
	t.Cleanup(func() {
		w.stopRun()
		<-w.stopped
		w.noneRuns()
	})
	return w
}

// leads is a Config.Prove of which only a connection tells whose it is.
func leads(f func(context.Context, net.Conn) error) func(int) Proof {
	return func(int) Proof {
		return Proof{Leads: func(ctx context.Context, c net.Conn, _ string) error { return f(ctx, c) }}
	}
}

// ssh is the fake of Tunnel.ssh.
func (w *world) ssh(ctx context.Context, l *launch) error {
	w.mu.Lock()
	s := w.plan(len(w.lives))
	s.l, s.began, s.die = l, time.Now(), make(chan error, 1)
	if other := w.last(); other != nil && other.ended.IsZero() {
		w.t.Errorf("launch %d while the one before still runs", len(w.lives))
	}
	if w.waiting == 0 && w.waited != time.Now() {
		w.t.Errorf("launch %d, but there is no client", len(w.lives))
	}
	w.lives = append(w.lives, &s)
	pid := len(w.lives)
	w.mu.Unlock()
	time.Sleep(s.starts)
	l.runs(pid, w.cfg.Prove)

	if s.letIn > 0 {
		time.AfterFunc(s.letIn, func() { l.loggedIn("") })
	}
	var lifeTime <-chan time.Time
	if s.lasts > 0 {
		lifeTime = time.After(s.lasts)
	}
	var why error
	select {
	case <-lifeTime:
		why = s.why
	case why = <-s.die:
	case <-ctx.Done():
		w.mu.Lock()
		s.told = time.Now()
		if !w.stopping {
			if s.open > 0 && !isLost(context.Cause(ctx)) {
				w.t.Errorf("told to go under %d connected clients", s.open)
			}
		}
		if f := (failure{}); errors.As(context.Cause(ctx), &f) {
			why = f
		}
		w.mu.Unlock()
		time.Sleep(s.stopTakes)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.ended = time.Now()
	return why
}

// near is the fake of dialNear.
func (w *world) near(ctx context.Context, _, _ string) (stream, error) {
	w.mu.Lock()
	w.dialing++
	w.tries++
	w.dialed = max(w.dialed, w.dialing)
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.dialing--; w.mu.Unlock() }()
	select {
	case <-time.After(dialTakes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.last()
	if s == nil || !s.ended.IsZero() || !s.told.IsZero() || time.Since(s.began) < s.ready {
		return nil, syscall.ECONNREFUSED
	}
	s.open++
	return &fakeConn{w: w, life: s}, nil
}

// signsOf is the fake of the kernel's knowledge. Whoever waits owes something.
func (w *world) signsOf(l *launch) (signs, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.last()
	if s == nil || s.l != l {
		return signs{}, false
	}
	age := time.Since(s.began)
	switch {
	case s.dies > 0 && age >= s.dies:
		return signs{heard: age - s.dies, data: age - s.dies, owed: true}, true
	case s.freezes > 0 && age >= s.freezes:
		return signs{data: age - s.freezes}, true
	}
	return signs{}, true
}

// last is the last launch. The caller holds w.mu.
func (w *world) last() *life {
	if len(w.lives) == 0 {
		return nil
	}
	return w.lives[len(w.lives)-1]
}

// unused is how long s had had no client at a time, or -1: it had one. Who is
// connected to an earlier launch is none, nor is who came at that very time.
// Who came no later than the launch and still dials may or may not have noticed
// it, so there are two answers: with certain, these do not count. The caller
// holds w.mu, and all goroutines are blocked.
func (w *world) unused(s *life, at time.Time, certain bool) time.Duration {
	unused := at.Sub(s.began)
	for _, k := range w.clients {
		switch {
		case !k.began.Before(at):
		case k.conn != nil && k.conn.l != s.l:
		case k.conn == nil && certain && !k.began.After(s.began):
		case k.left.IsZero() || k.left.After(at):
			return -1
		default:
			unused = min(unused, at.Sub(k.left))
		}
	}
	return unused
}

// launched fails if there were not exactly n launches, and returns the last.
func (w *world) launched(n int) *life {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lives) != n {
		w.t.Fatalf("%d launches, want %d", len(w.lives), n)
	}
	return w.last()
}

// launches are copies of what has been launched up to now.
func (w *world) launches() (all []life) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.lives {
		all = append(all, *s)
	}
	return all
}

// mostDialing is how many have been dialing at a time.
func (w *world) mostDialing() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialed
}

// noneRuns fails if an ssh is up.
func (w *world) noneRuns() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.lives {
		if s.ended.IsZero() {
			w.t.Errorf("launch %d still runs", i)
		}
		if s.open != 0 {
			w.t.Errorf("launch %d has %d open connections", i, s.open)
		}
	}
}

// isUp fails unless the last launch runs and has not been told to go.
func (w *world) isUp() {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.last(); s == nil || !s.told.IsZero() || !s.ended.IsZero() {
		w.t.Errorf("the tunnel is not up")
	}
}

// toldAfter fails unless the life was told to go exactly d after since.
func (s *life) toldAfter(t tester, since time.Time, d time.Duration) {
	t.Helper()
	synctest.Wait()
	if s.told.IsZero() {
		t.Errorf("not told to go %s after the last use, want %s", time.Since(since), d)
	} else if got := s.told.Sub(since); got != d {
		t.Errorf("told to go %s after the last use, want %s", got, d)
	}
}

// within fails unless d is in [low, 1.2 low], as every pause must be.
func within(t tester, what string, d, low time.Duration) {
	t.Helper()
	if d < low || d > low+low/5 {
		t.Errorf("%s: %s, want %s to %s", what, d, low, low+low/5)
	}
}

// bubble runs f in a bubble of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
