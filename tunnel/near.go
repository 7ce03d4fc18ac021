package tunnel

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"
)

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
