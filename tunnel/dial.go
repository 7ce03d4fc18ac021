package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Dial connects to a near end, launching the tunnel first if it is down. It
// goes on trying until there is a connection that is trusted and that answered
// approves of, or until ctx is done, the host rejects us, or Run has returned.
// The error then says what stood in the way, in ssh's own words if it has
// said any.
//
// The connection is a lease: the tunnel stays until it is closed. The caller
// closes it.
//
// answered, if not nil, is called with each fresh connection and reports whether
// the far end is there; at most 64 of these calls, or of the dials before
// them, are under way at a time. It must end when ctx does.
func (t *Tunnel) Dial(ctx context.Context, network, address string, answered func(context.Context, net.Conn) error) (*Conn, error) {
	var why error // of what we last waited for
	for {
		r, err := t.lease(ctx)
		if err != nil {
			return nil, t.gaveUp(ctx, err, why)
		}
		if r.launch == nil {
			if r.retry == nil {
				return nil, r.refusal()
			}
			select {
			case <-r.retry:
			case <-ctx.Done():
				return nil, t.gaveUp(ctx, ctx.Err(), r.refusal())
			}
			why = r.why
			continue
		}
		k := knock{t: t, l: r.launch, before: why, began: time.Now(), network: network, address: address, answered: answered}
		c, err := k.untilAnswered(ctx)
		if err == nil {
			r.launch.users.add(0, 1)
			return &Conn{stream: c, t: t, l: r.launch}, nil
		}
		t.giveBack(r.launch)
		if !errors.Is(err, errEnded) {
			return nil, t.gaveUp(ctx, err, k.why())
		}
		why = noTunnel(t.cfg.Name, r.launch.reason(), "")
	}
}

// errBusy is for a client whose patience ended before it was heard.
var errBusy = errors.New("this machine is too busy to launch ssh; with a longer --wait you may get through")

// gaveUp is the error for a client whose ctx is done: why it waited, or, if it
// did not simply run out of patience, the cause that ctx carries.
func (t *Tunnel) gaveUp(ctx context.Context, err, why error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case !errors.Is(cause, context.DeadlineExceeded):
		return cause
	case why == nil:
		return noTunnel(t.cfg.Name, errBusy, "")
	}
	return why
}

// refusal is for a client that waits no longer, and is told what is left of the
// pause then, not when it came.
func (r leaseReply) refusal() error {
	if r.until.IsZero() {
		return r.err
	}
	return fmt.Errorf("%w; next try in %s", r.why, inSeconds(time.Until(r.until)))
}

func (t *Tunnel) lease(ctx context.Context) (leaseReply, error) {
	reply := make(chan leaseReply, 1)
	if ctx.Err() != nil { // the pause may have ended as well
		return leaseReply{}, ctx.Err()
	}
	select {
	case t.leases <- leaseRequest{reply}:
		return <-reply, nil
	case <-ctx.Done():
		return leaseReply{}, ctx.Err()
	case <-t.stopped:
		return leaseReply{}, ErrStopped
	}
}

func (t *Tunnel) giveBack(l *launch) {
	select {
	case t.returns <- l:
	case <-t.stopped:
	}
}

// errEnded means that ssh ended before it had answered.
var errEnded = errors.New("ssh has ended")

func (l *launch) reason() error {
	if l.err != nil {
		return l.err
	}
	return errEnded
}

// A knock is one client's attempt to get an answer from one launch.
type knock struct {
	t                *Tunnel
	l                *launch
	before           error // why the client has waited until now
	began            time.Time
	network, address string
	answered         func(context.Context, net.Conn) error

	near    string   // the address that was dialed because it is known
	problem error    // the last one seen
	told    []string // what the log has of near ends that were not used
}

// untilAnswered returns a connection that has been answered, or errEnded, or
// ctx's error. As long as the launch has not answered anybody, one client at
// a time tries whether it does, and the others wait for its success.
func (k *knock) untilAnswered(ctx context.Context) (stream, error) {
	k.l.users.add(1, 0)
	defer k.l.users.add(-1, 0)
	select {
	case <-k.l.running:
	case <-k.l.ended:
		return nil, errEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		turn := k.t.knocking
		if !isClosed(k.l.answered) {
			turn = k.l.prober
		}
		select {
		case turn <- struct{}{}:
		case <-k.l.probed(turn):
			continue // another client's success: now it is everybody's turn
		case <-k.l.ended:
			return nil, errEnded
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c, pause := k.once(ctx)
		<-turn
		if c != nil {
			return c, nil
		}
		select {
		case <-time.After(pause):
		case <-k.l.untilLetIn():
		case <-k.l.ended:
			return nil, errEnded
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// probed is the launch's first answer, for those who wait for the prober's
// place, and nil for those who have no need to.
func (l *launch) probed(turn chan struct{}) <-chan struct{} {
	if turn == l.prober {
		return l.answered
	}
	return nil
}

// untilLetIn is when it is worth trying at once, and nil if that was already.
func (l *launch) untilLetIn() <-chan struct{} {
	if isClosed(l.letIn) {
		return nil
	}
	return l.letIn
}

// pause is how long to wait before a near end is tried again. A try costs some
// microseconds, so that is often at first: never more than a 64th of the time
// that ssh has taken, since its launch or since the host has let it in, a moment
// after which it listens.
func (l *launch) pause() time.Duration {
	since, least := l.began, 2*time.Millisecond
	if isClosed(l.letIn) {
		since, least = l.letInAt, time.Millisecond
	}
	return min(max(time.Since(since)/64, least), 50*time.Millisecond)
}

// once dials, and returns a connection that has been answered, or how long to
// wait before the next try.
func (k *knock) once(ctx context.Context) (stream, time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.l.life, cancel)() // a dead ssh answers nobody
	came := k.l.wire.expect()
	defer came()
	c, proved, err := k.dial(ctx)
	if errors.Is(err, errNotTrusted) {
		return nil, k.l.longPause()
	}
	if err != nil {
		return nil, k.l.pause()
	}
	if isClosed(k.l.ended) {
		c.Close() // it may be a connection to the next launch
		return nil, 0
	}
	if !isClosed(k.l.answered) {
		select {
		case k.t.greeted <- k.l:
		case <-k.t.stopped:
		}
	}
	if k.answered == nil {
		return c, 0
	}
	// From here on a slow far end may keep the client waiting; that must not
	// keep others from trying, so the prober's place is not held: greeted has
	// made it everybody's turn.
	if err := k.answered(ctx, c); err != nil {
		c.Close()
		if k.l.life.Err() == nil {
			k.problem = err
		}
		return nil, time.Second
	}
	if !proved && k.trust(ctx, c, k.near) != nil {
		c.Close()
		k.l.setNear(k.address, "")
		return nil, time.Second
	}
	return c, 0
}

// why says what kept the client waiting, as far as it is known: what was seen
// here, and what ssh has said meanwhile.
func (k *knock) why() error {
	up, why := isClosed(k.l.answered), k.problem
	switch line := k.l.lastSince(k.began); {
	case why != nil && line != "":
		why = fmt.Errorf("%w (%s)", why, line)
	case up && line != "":
		why = errors.New(line)
	case k.before != nil && (why == nil || len(k.told) > 0 && !up):
		return k.before // if it is about strangers, the launch before had time to say more
	case why == nil && up:
		why = errors.New("too many clients are waiting for its answer")
	case why == nil:
		why = k.l.stillTrying(line)
	}
	if up {
		return fmt.Errorf("the tunnel to %s is up, but: %w", k.t.cfg.Name, why)
	}
	return noTunnel(k.t.cfg.Name, why, "")
}

// stillTrying is for a client that leaves before the login's end; said is what
// ssh, or somebody through it, has said up to now.
func (l *launch) stillTrying(said string) error {
	if said != "" {
		said = " (" + said + ")"
	}
	if isClosed(l.letIn) && time.Since(l.letInAt) > nearEndTimeout {
		return fmt.Errorf("the host has let ssh in, but ssh does not listen at the near end%s", said)
	}
	return fmt.Errorf("ssh is still trying after %s%s; with a longer --wait you may get through", inSeconds(since(l.began)), said)
}
