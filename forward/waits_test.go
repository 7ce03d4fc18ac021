package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// waiting is a Dial that never succeeds; it tells what its ctx ended of.
func waiting(causes chan<- error) Dial {
	return func(ctx context.Context) (Stream, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, context.Cause(ctx)
	}
}

func TestAClientThatResetsWhileItsDialWaitsEndsTheDial(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "with bytes under way": "question"} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			var log journal
			causes, refused := make(chan error, 1), make(chan error, 1)
			f := patient()
			f.Log = log.log()
			f.OnDialError = func(c Stream, err error) { c.Close(); refused <- err }
			r := serving(t, f, waiting(causes))
			c := call(t, r.addr)
			_, _ = io.WriteString(c, sent)
			reset(c)
			if err := receive(t, "the end of the dial", causes); !errors.Is(err, ErrClientLeft) {
				t.Errorf("the dial's cause is %v", err)
			}
			r.stop()
			receive(t, "Serve's return", r.done)
			if len(refused) > 0 {
				t.Errorf("a client that has left was refused: %v", <-refused)
			}
			if !log.has("client left before it was served") {
				t.Errorf("not in the log:\n%s", &log)
			}
		})
	}
}

func TestAClientThatClosesItsSocketWhileItsDialWaitsEndsTheDial(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "with bytes under way": "question"} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			var left atomic.Bool
			var early atomic.Int32
			causes := make(chan error, 1)
			f := patient()
			f.Gone = func(net.Conn) bool {
				if !left.Load() {
					early.Add(1)
				}
				return left.Load()
			}
			c := call(t, serving(t, f, waiting(causes)).addr)
			_, _ = io.WriteString(c, sent)
			_ = c.CloseWrite()
			until(t, "the forwarder has asked twice", func() bool { return early.Load() >= 2 })
			if len(causes) > 0 {
				t.Fatal("the dial was given up while the client was there")
			}
			left.Store(true)
			c.Close()
			if err := receive(t, "the end of the dial", causes); !errors.Is(err, ErrClientLeft) {
				t.Errorf("the dial's cause is %v", err)
			}
		})
	}
}

func TestBytesOfAClientThatIsThereAreNotTakenForLeaving(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", func(c Stream) { _, _ = io.Copy(c, c) })
	dial, open := gated(end.dial)
	f := patient()
	var ends atomic.Bool // when the test does, the forwarder may well ask
	f.Gone = func(net.Conn) bool {
		if !ends.Load() {
			t.Error("asked about a client that has not ended")
		}
		return false
	}
	c := call(t, serving(t, f, dial).addr)
	for range 50 { // each wakes the watcher
		_, _ = c.Write([]byte("x"))
	}
	time.Sleep(4 * watchAfter) // it is watched by now, or it will be
	open()
	_, err := io.ReadFull(c, make([]byte, 50))
	ends.Store(true)
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhenPatienceIsOverOnDialErrorGetsTheDialsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // else it may be over before the dial
		client, ours := newWire()
		why := errors.New("no route")
		causes, refused := make(chan error, 1), make(chan error, 1)
		f := &Forwarder{DialTimeout: time.Millisecond}
		f.OnDialError = func(c Stream, err error) {
			refused <- err
			_, _ = io.WriteString(c, "sorry")
			c.Close()
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go f.Serve(ctx, newQueue(ours), func(ctx context.Context) (Stream, error) { // ends with the bubble
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, fmt.Errorf("in vain: %w", why)
		})
		if b, err := io.ReadAll(client); string(b) != "sorry" || err != nil {
			t.Errorf("the client got %q, %v", b, err)
		}
		if err := <-causes; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the dial's cause is %v", err)
		}
		if err := <-refused; !errors.Is(err, why) {
			t.Errorf("refused because of %v", err)
		}
	})
}

func TestWithoutOnDialErrorARefusedClientSeesAReset(t *testing.T) {
	noLeaks(t)
	called := make(chan struct{}) // a reset at once may fail the client's connect
	r := serving(t, patient(), func(context.Context) (Stream, error) { <-called; return nil, errors.New("no") })
	c := call(t, r.addr)
	close(called)
	if n, err := c.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestWhoIsRefusedIsCountedAsLongAsHeReads: more than maxRefusing get no time.
func TestWhoIsRefusedIsCountedAsLongAsHeReads(t *testing.T) {
	f := patient()
	refused := make(chan int64, 3)
	f.OnDialError = func(c Stream, _ error) { refused <- f.refusing.Load(); c.Close() }
	r := serving(t, f, func(context.Context) (Stream, error) { return nil, errors.New("no") })
	for range 3 {
		c := call(t, r.addr)
		_, _ = io.Copy(io.Discard, c)
		if n := receive(t, "a refusal", refused); n < 1 {
			t.Errorf("%d are refused", n)
		}
	}
	r.stop()
	receive(t, "Serve's return", r.done)
	if n := f.refusing.Load(); n != 0 {
		t.Errorf("%d are refused when all have left", n)
	}
}
