package tunnel

import (
	"context"
	"errors"
	"time"
)

// loginLimit is how long a launch may take until it is let in, or answers.
const loginLimit = 2 * time.Minute

// Run supervises the tunnel until ctx is done, then stops ssh, waits for its
// end (a few seconds at most) and returns. Call it once. Whoever dials after
// that gets ErrStopped.
func (t *Tunnel) Run(ctx context.Context) {
	defer close(t.stopped)
	var (
		now    *launch // nil: there is no ssh
		its    events  // of now
		idle   countdown
		pauses backOff
		told   Status
		stop   = ctx.Done() // nil: it is stopping
	)
	for {
		t.tell(&told, statusOf(now, idle.until, &pauses))
		select {
		case reply := <-t.statuses:
			reply <- statusOf(now, idle.until, &pauses)
		case req := <-t.leases:
			if now == nil && !pauses.on() && ctx.Err() == nil {
				now = t.launch()
				its = events{now.ended, now.letIn, time.After(loginLimit)}
			}
			req.reply <- t.lend(now, &idle, &pauses, ctx.Err() != nil)
		case l := <-t.returns:
			if l.leases--; l == now && now.unused() {
				idle = t.countdown(now)
			}
		case <-its.letIn:
			if its.letIn, its.limit = nil, nil; now.unused() {
				idle = t.countdown(now)
			}
		case l := <-t.greeted:
			if l == now && t.answers(now) {
				its.limit = nil
			}
		case <-its.limit:
			now.stop(now.tooSlow())
		case why := <-t.lost:
			t.lose(now, &idle, why)
		case <-idle.over:
			t.timeIsUp(now, &idle)
		case <-its.ended:
			t.hasEnded(now, &pauses)
			if ctx.Err() != nil {
				return
			}
			now, its, idle = nil, events{}, countdown{}
		case <-pauses.over:
			pauses.end()
		case <-t.forget:
			pauses.forget()
		case <-stop:
			stop = nil
			if pauses.end(); now == nil {
				return
			}
			t.close(now, &idle, nil)
		}
	}
}

// Events are what may happen to a launch; a nil channel: not any more.
type events struct {
	ended, letIn <-chan struct{}
	limit        <-chan time.Time // of its login
}

// tell reports the status, if it is another one than before.
func (t *Tunnel) tell(told *Status, s Status) {
	if t.cfg.Changed != nil && (s.State != told.State || s.Clients != told.Clients) {
		*told = s
		t.cfg.Changed(s)
	}
}

// lend is what a client gets: a lease on now, which calls a countdown off, or the
// reason why there is none.
func (t *Tunnel) lend(now *launch, idle *countdown, pauses *backOff, stopping bool) leaseReply {
	switch {
	case stopping:
		return leaseReply{err: ErrStopped}
	case now == nil:
		return pauses.reply(t.cfg.Name)
	case now.closing:
		return leaseReply{retry: now.ended, err: errors.New("the last tunnel is still closing")}
	}
	if idle.over != nil {
		t.cfg.Log.Info().Msg("a client has come: countdown called off")
		*idle = countdown{}
	}
	now.leases++
	return leaseReply{launch: now}
}

// answers notes the first answer of a launch, and reports whether it is that.
func (t *Tunnel) answers(l *launch) bool {
	if isClosed(l.answered) {
		return false
	}
	t.cfg.Log.Info().Stringer("after", lasted(l)).Msg("the tunnel answers")
	close(l.answered)
	return true
}

// timeIsUp is the end of the countdown.
func (t *Tunnel) timeIsUp(l *launch, idle *countdown) {
	t.cfg.Log.Info().Msg("time's up: closing the tunnel")
	t.close(l, idle, nil)
}

// close tells ssh to go, for why if that is not nil.
func (t *Tunnel) close(l *launch, idle *countdown, why error) {
	*idle = countdown{}
	l.closing = true
	l.stop(why)
}

// lose closes a launch that is of no use any more. No pause follows, for the host
// has let it in.
func (t *Tunnel) lose(now *launch, idle *countdown, why error) {
	if !now.closing {
		t.cfg.Log.Warn().Err(why).Msg("the connection to the host is dead: the next client gets another")
		t.close(now, idle, why)
	}
}

// hasEnded logs the end of a launch, and starts the pause if it is a failure: the
// first one, if the launch has answered and has lasted.
func (t *Tunnel) hasEnded(l *launch, pauses *backOff) {
	if isClosed(l.answered) && (l.closing || time.Since(l.began) >= lasting) {
		pauses.succeeded()
	}
	if l.closing {
		t.cfg.Log.Info().Stringer("lasted", lasted(l)).Msg("the tunnel is closed")
		return
	}
	d := pauses.failed(l.err, l.began.Add(t.between))
	t.cfg.Log.Warn().AnErr("why", l.err).Stringer("lasted", lasted(l)).
		Stringer("back_off", d.Round(time.Millisecond)).Msg("the tunnel has ended by itself" + pauses.hint())
}

// A countdown is on while nobody uses a tunnel. The zero value is off.
type countdown struct {
	over  <-chan time.Time
	until time.Time
}

// countdown starts one. A launch may stay for a moment in any case, so that not
// each client of many has one of its own.
func (t *Tunnel) countdown(l *launch) countdown {
	d := max(t.cfg.Idle+upTo(t.cfg.Jitter), time.Until(l.began.Add(t.between)))
	e := t.cfg.Log.Info().Stringer("closes_in", d.Round(time.Millisecond))
	if isClosed(l.answered) {
		e.Msg("the last client has left: countdown started")
	} else {
		e.Msg("the host has let ssh in, and nobody waits any more: countdown started")
	}
	return countdown{time.After(d), time.Now().Add(d)}
}
