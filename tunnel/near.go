package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"
)

// nearTimeout is how long a near end may take to connect. On the loopback that
// is done at once, unless the queue of who listens there is full; then another
// address, or the next try, is better than TCP's second try a second later.
const nearTimeout = 100 * time.Millisecond

// dial tries the near end's addresses in turn and returns the first connection
// that is the launch's. Once one of them is known to be ssh's, a connection to it
// need not wait until ssh has accepted it: it can be checked when it has been
// answered.
func (k *knock) dial(ctx context.Context) (c stream, proved bool, err error) {
	if k.near = k.l.near(k.address); k.near != "" && k.answered != nil {
		if c, err = k.connect(ctx, k.near); err != nil {
			k.l.setNear(k.address, "")
		}
		return c, false, err
	}
	for _, address := range nearAddresses(k.network, k.address) {
		c, e := k.reach(ctx, address)
		if e == nil {
			if k.network == "tcp" {
				k.l.setNear(k.address, address)
			}
			return c, true, nil
		}
		if errors.Is(e, ErrDropped) {
			return nil, false, errNotTrusted // it is ssh, and the other address is no better
		}
		err = e
	}
	return nil, false, err
}

// reach connects to one address, if it is the launch that listens there.
func (k *knock) reach(ctx context.Context, address string) (stream, error) {
	if listens := k.l.proof.Listens; listens != nil {
		if err := listens(k.network, address); err != nil {
			_ = k.distrust(address, err)
			return nil, err // nobody has been connected to, so it may be asked again soon
		}
	}
	c, err := k.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := k.trust(ctx, c, address); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect keeps an error of our own for the client.
func (k *knock) connect(ctx context.Context, address string) (stream, error) {
	near, cancel := context.WithTimeout(ctx, nearTimeout)
	defer cancel()
	c, err := k.t.dial(near, k.network, address)
	switch {
	case err == nil || ctx.Err() != nil:
	case near.Err() != nil:
		k.problem = crowded(address)
	case notYet(err):
		k.notCrowded(address)
	default:
		k.problem = err
	}
	return c, err
}

// crowded is a near end that has not connected in time.
type crowded string

func (c crowded) Error() string { return string(c) + " takes no connection: too many wait there" }

// notCrowded forgets that problem of a near end: it may have been us who had no time.
func (k *knock) notCrowded(address string) {
	if k.problem == error(crowded(address)) {
		k.problem = nil
	}
}

// ErrDropped is about a connection that nobody holds any more, or has held for
// long. ssh does that when the far port is closed; Proof.Leads may say so.
var ErrDropped = errors.New("the near end dropped the connection")

// errNotTrusted means that somebody else was connected to.
var errNotTrusted = errors.New("the near end is not trusted")

// longPause is how long to wait after that, so that he is not connected to all the
// time. Soon after the host has let ssh in, ssh takes a Unix socket's path from him.
func (l *launch) longPause() time.Duration {
	if isClosed(l.letIn) && time.Since(l.letInAt) < time.Second {
		return l.pause()
	}
	return time.Second
}

// notYet is a near end at which nobody listens (ENOENT: its socket is not
// there), or whose queue is full (EAGAIN, of a Unix socket, is a time-out to Go;
// else the client's patience ends first), as opposed to an error of our own.
func notYet(err error) bool {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

func (k *knock) trust(ctx context.Context, c stream, address string) error {
	if k.l.proof.Leads == nil {
		return nil
	}
	err := k.l.proof.Leads(ctx, c, address)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return k.distrust(address, err)
}

// distrust keeps why a near end is not used, and logs who sits there, once for
// each client.
func (k *knock) distrust(address string, err error) error {
	if notYet(err) {
		k.notCrowded(address)
		return err
	}
	k.problem = err
	if errors.Is(err, ErrDropped) {
		return err
	}
	if why := err.Error(); !slices.Contains(k.told, why) {
		k.told = append(k.told, why)
		k.t.cfg.Log.Warn().Str("near_end", address).Err(err).Msg("a near end was not used")
	}
	return errNotTrusted
}

// near is where ssh is known to listen for a near end; empty: it is not known.
func (l *launch) near(end string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nears[end]
}

func (l *launch) setNear(end, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nears == nil {
		l.nears = map[string]string{}
	}
	l.nears[end] = address
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
