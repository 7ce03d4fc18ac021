package forward

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lastCall is how long a stopped listener waits for the next client of those
// who are in its queue already.
const lastCall = 5 * time.Millisecond

// lastCalls is for how long that goes on, where clients keep coming; and how long
// one who is known to be in the queue may take to come out.
const lastCalls = time.Second

// maxLate is how many clients may be found in the queue when the moment is over: as
// many as Linux lets a queue have (listen(2), somaxconn), so that they are all of those
// who came before.
const maxLate = 4096

// stopAccepting ends Accept when the queue is empty, or after a moment.
func stopAccepting(l net.Listener, moment time.Duration) {
	if d, ok := l.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(time.Now().Add(moment)) != nil {
		l.Close()
	}
}

// queued reports whether a client is in l's queue.
func queued(l net.Listener) (is bool) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { is = polled(int(fd), unix.POLLIN) })
	}
	return is
}

// accept waits errors out that may pass: all but that l is closed.
func (f *Forwarder) accept(ctx context.Context, l net.Listener) (Stream, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Accept()
		if client, ok := c.(Stream); ok {
			return client, nil
		}
		if err == nil {
			c.Close()
			return nil, errors.ErrUnsupported // a listener of TLS, say
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return nil, err
		}
		f.Log.Error().Err(err).Stringer("pause", pause).Msg("cannot accept a client; trying again")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}
