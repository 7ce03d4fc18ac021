package tunnel

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// A fakeConn is a connection that can only be closed.
type fakeConn struct {
	net.Conn
	w      *world
	life   *life
	closed bool
}

func (c *fakeConn) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

func (c *fakeConn) CloseWrite() error { return nil }

func (c *fakeConn) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.life.open--
	return nil
}

// A client is one Dial. Its fields may be read when done is closed.
type client struct {
	w      *world
	began  time.Time
	giveUp context.CancelCauseFunc
	done   chan struct{}

	conn   *Conn
	err    error
	waited time.Duration

	left time.Time // guarded by w.mu; zero: it has not
}

type answerer = func(context.Context, net.Conn) error

// comes starts a client that waits for as long as patience.
func (w *world) comes(patience time.Duration, answered ...answerer) *client {
	var f answerer
	if len(answered) > 0 {
		f = answered[0]
	}
	return w.comesTo("tcp", "127.0.0.1:1025", patience, f)
}

func (w *world) comesTo(network, address string, patience time.Duration, answered answerer) *client {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ctx, giveUp := context.WithCancelCause(ctx)
	k := &client{w: w, began: time.Now(), giveUp: giveUp, done: make(chan struct{})}
	w.mu.Lock()
	w.clients = append(w.clients, k)
	w.waiting++
	w.mu.Unlock()
	go func() {
		defer close(k.done)
		defer cancel()
		c, err := w.Dial(ctx, network, address, answered)
		w.mu.Lock()
		defer w.mu.Unlock()
		k.conn, k.err, k.waited = c, err, time.Since(k.began)
		w.waiting--
		w.waited = time.Now()
		if k.err != nil {
			k.left = time.Now()
		}
	}()
	return k
}

// connected waits for the client's connection and fails if there is none.
func (k *client) connected() *client {
	k.w.t.Helper()
	if <-k.done; k.err != nil {
		k.w.t.Fatalf("client after %s: %v", k.waited, k.err)
	}
	return k
}

// refused waits for the client's error and fails if it has another text.
func (k *client) refused(text string) *client {
	k.w.t.Helper()
	if <-k.done; k.err == nil || k.err.Error() != text {
		k.w.t.Fatalf("client after %s: got error %q, want %q", k.waited, k.err, text)
	}
	return k
}

// leaves closes the client's connection.
func (k *client) leaves() {
	k.conn.Close()
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.left = time.Now()
}

// waitedFor fails if the client has not waited for exactly d.
func (k *client) waitedFor(d time.Duration) *client {
	k.w.t.Helper()
	if <-k.done; k.waited != d {
		k.w.t.Errorf("client waited %s, want %s", k.waited, d)
	}
	return k
}
