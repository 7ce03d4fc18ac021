package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
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
// answered, if not nil, is called with each fresh connection and says whether
// the far end is there; at most 64 of these calls, or of the dials before
// them, are under way at a time. It must end when ctx does.
func (t *Tunnel) Dial(ctx context.Context, network, address string, answered func(context.Context, net.Conn) error) (net.Conn, error) {
	var why error // of what we last waited for
	for {
		r, err := t.lease(ctx)
		if err != nil {
			return nil, t.gaveUp(ctx, err, why)
		}
		if r.launch == nil {
			if r.retry == nil {
				return nil, r.err
			}
			select {
			case <-r.retry:
			case <-ctx.Done():
				return nil, t.gaveUp(ctx, ctx.Err(), r.err)
			}
			why = r.why
			continue
		}
		k := knock{t: t, l: r.launch, before: why, began: time.Now(), network: network, address: address, answered: answered}
		c, err := k.untilAnswered(ctx)
		if err == nil {
			return &conn{stream: c, t: t, l: r.launch}, nil
		}
		t.giveBack(r.launch)
		if !errors.Is(err, errEnded) {
			return nil, t.gaveUp(ctx, err, k.why())
		}
		why = noTunnel(t.cfg.Name, r.launch.reason(), "")
	}
}

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
		return noTunnel(t.cfg.Name, cause, "")
	}
	return why
}

func (t *Tunnel) lease(ctx context.Context) (leaseReply, error) {
	reply := make(chan leaseReply, 1)
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

	near    string // the address that was dialed because it is known
	problem error  // the last one seen
}

// untilAnswered returns a connection that has been answered, or errEnded, or
// ctx's error. As long as the launch has not answered anybody, one client at
// a time tries whether it does, and the others wait for its success.
func (k *knock) untilAnswered(ctx context.Context) (stream, error) {
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

// once dials, and returns a connection that has been answered, or how long to
// wait before the next try.
func (k *knock) once(ctx context.Context) (stream, time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.l.life, cancel)() // a dead ssh answers nobody
	came := k.l.acks.expect()
	defer came()
	c, trusted, err := k.dial(ctx)
	if errors.Is(err, errNotTrusted) {
		return nil, time.Second
	}
	if err != nil {
		// A try costs some microseconds, so try often at first: the pause is
		// never more than a 64th of the time that ssh has already taken.
		return nil, min(max(time.Since(k.l.began)/64, 2*time.Millisecond), 50*time.Millisecond)
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
	if !trusted && k.trust(ctx, c, k.near) != nil {
		c.Close()
		k.l.setNear(k.address, "")
		return nil, time.Second
	}
	return c, 0
}

// dial tries the near end's addresses in turn and returns the first connection
// that is trusted. Once one of them is known to be ssh's, a connection to it
// need not wait until ssh has accepted it: it can be checked when it has been
// answered.
func (k *knock) dial(ctx context.Context) (c stream, trusted bool, err error) {
	if k.near = k.l.near(k.address); k.near != "" && k.answered != nil {
		c, err = k.t.dial(ctx, k.network, k.near)
		k.note(ctx, err)
		return c, false, err
	}
	var distrusted error
	for _, address := range nearAddresses(k.network, k.address) {
		if c, err = k.t.dial(ctx, k.network, address); err != nil {
			k.note(ctx, err)
			continue
		}
		if err = k.trust(ctx, c, address); err == nil {
			err = k.belongs(c, address)
		}
		if err == nil {
			if k.network == "tcp" {
				k.l.setNear(k.address, address)
			}
			return c, true, nil
		}
		c.Close()
		distrusted = errNotTrusted
		if errors.Is(err, ErrDropped) {
			break // there is somebody, and the other address is no better
		}
	}
	return nil, false, cmp.Or(distrusted, err)
}

// note keeps an error of our own in dialing, for the client.
func (k *knock) note(ctx context.Context, err error) {
	if err != nil && !notYet(err) && ctx.Err() == nil {
		k.problem = err
	}
}

// ErrDropped is about a connection that nobody holds any more, or has held for
// long. ssh does that when the far port is closed; Trust may say so.
var ErrDropped = errors.New("the near end dropped the connection")

// errNotTrusted means that somebody answered at the near end.
var errNotTrusted = errors.New("the near end is not trusted")

// notYet is a near end at which nobody listens (ENOENT: its socket is not
// there), or whose queue is full (EAGAIN, of a Unix socket; else the client's
// patience ends first), as opposed to an error of our own.
func notYet(err error) bool {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EAGAIN)
}

func (k *knock) trust(ctx context.Context, c stream, address string) error {
	if k.t.cfg.Trust == nil {
		return nil
	}
	err := k.t.cfg.Trust(ctx, c)
	if ctx.Err() == nil {
		k.distrust(address, err)
	}
	return err
}

func (k *knock) belongs(c stream, address string) error {
	if k.t.cfg.Belongs == nil {
		return nil
	}
	err := k.t.cfg.Belongs(c, k.l.process())
	k.distrust(address, err)
	return err
}

// distrust keeps why a connection is not used, and logs who sits on our near
// end, once for each client.
func (k *knock) distrust(address string, err error) {
	if err == nil {
		return
	}
	if !errors.Is(err, ErrDropped) && (k.problem == nil || k.problem.Error() != err.Error()) {
		k.t.cfg.Log.Warn().Str("near_end", address).Err(err).Msg("a connection to the near end was not used")
	}
	k.problem = err
}

// why says what kept the client waiting, as far as it is known: what was seen
// here, and what ssh has said meanwhile.
func (k *knock) why() error {
	up, why := isClosed(k.l.answered), k.problem
	switch line := k.l.lastSince(k.began); {
	case why != nil && line != "":
		why = fmt.Errorf("%w (%s)", why, line)
	case line != "":
		why = errors.New(line)
	case why == nil && k.before != nil:
		return k.before
	case why == nil && up:
		why = errors.New("too many clients are waiting for its answer")
	case why == nil:
		why = fmt.Errorf("ssh is not ready after %s", inSeconds(time.Since(k.l.began)))
	}
	if up {
		return fmt.Errorf("the tunnel to %s is up, but: %w", k.t.cfg.Name, why)
	}
	return noTunnel(k.t.cfg.Name, why, "")
}

// nearAddresses are the places where ssh may listen when told a bare port: the
// loopback address of each family. If one of them is somebody else's, ssh is
// content with the other.
func nearAddresses(network, address string) []string {
	host, port, err := net.SplitHostPort(address)
	if network != "tcp" || err != nil || host != "localhost" {
		return []string{address}
	}
	return []string{"127.0.0.1:" + port, "[::1]:" + port}
}
