package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBytesAndClientsAreCountedExactlyHoweverMuchAndHoweverItEnds(t *testing.T) {
	const up, down = 5<<20 + 3, 3<<20 + 1
	for name, end := range map[string]func(*net.TCPConn){
		"orderly": func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.Copy(io.Discard, c) },
		"reset":   func(c *net.TCPConn) { reset(c) },
	} {
		for _, smtp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, smtp %v", name, smtp), func(t *testing.T) {
				noLeaks(t)
				got := make(chan int64, 1)
				far := answering(t, "tcp", func(c Stream) {
					n, _ := io.CopyN(io.Discard, c, up)
					_, _ = c.Write(make([]byte, down))
					got <- n
					_, _ = io.Copy(io.Discard, c)
				})
				f := patient()
				serve := serving
				if smtp {
					serve = servingSMTP
				}
				c := call(t, serve(t, f, far.dial).addr)
				if _, err := c.Write(make([]byte, up)); err != nil {
					t.Fatal(err)
				}
				if n, err := io.CopyN(io.Discard, c, down); err != nil || receive(t, "the far end", got) != up {
					t.Fatalf("%d bytes, %v", n, err)
				}
				end(c)
				until(t, "the visit is over", func() bool { return f.Stats().Working == 0 && f.Stats().Served > 0 })
				if want := (Stats{Served: 1, BytesUp: up, BytesDown: down}); f.Stats() != want {
					t.Errorf("%+v, want %+v", f.Stats(), want)
				}
			})
		}
	}
}

func TestAClientThatGotNothingIsRefusedAndWhyIsKnown(t *testing.T) {
	noLeaks(t)
	var log journal
	f := patient()
	f.Log = log.log()
	far := answering(t, "tcp", func(Stream) {})
	c := call(t, serving(t, f, far.dial).addr)
	_, _ = io.ReadAll(c)
	c.Close()
	until(t, "the visit is over", func() bool { return f.Stats().Working == 0 && f.Stats().Refused > 0 })
	if at, why := f.LastRefusal(); !errors.Is(why, errSilent) || time.Since(at) > enough {
		t.Errorf("the last refusal: %v, at %s", why, at)
	}
	if s := f.Stats(); s.Served != 0 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	until(t, "it is in the log", func() bool {
		return log.has(`"error":"` + errSilent.Error() + `","message":"client turned away"`)
	})
}

func TestAClientThatLeavesWithoutWaitingForAnAnswerIsServed(t *testing.T) {
	noLeaks(t)
	f := patient()
	far := answering(t, "tcp", func(c Stream) { _, _ = io.Copy(io.Discard, c) })
	c := call(t, serving(t, f, far.dial).addr)
	_, _ = io.WriteString(c, "a line of a log")
	c.Close()
	until(t, "the visit is over", func() bool { return f.Stats().Served == 1 })
}

// A slow lease is one whose tunnel is known to have ended after a while.
type slowLease struct {
	lease
	after    time.Duration
	received *atomic.Int32
}

func (l slowLease) Received() { l.received.Add(1) }

func (l slowLease) Lost(d time.Duration) error {
	if d < l.after {
		return nil
	}
	return l.why
}

func TestALeaseIsToldOfBytesAndGivenAMomentToEnd(t *testing.T) {
	noLeaks(t)
	var received atomic.Int32
	far := answering(t, "tcp", func(c Stream) { _, _ = io.WriteString(c, "220 far\r\n") })
	c := call(t, servingSMTP(t, patient(), func(ctx context.Context) (Stream, error) {
		c, err := far.dial(ctx)
		if err != nil {
			return nil, err
		}
		return slowLease{lease{c.(*net.TCPConn), errors.New("ssh: timeout")}, 50 * time.Millisecond, &received}, nil
	}).addr)
	says(t, c, "220 far\r\n")
	b, _ := io.ReadAll(c)
	is421(t, string(b), "ssh: timeout")
	if received.Load() == 0 {
		t.Error("the lease was not told of bytes")
	}
}

// TestAClientThatHasSaidAllIsResetIfTheTunnelIsLost: what it has got is not all. If
// that is not known at once it need not wait, as the end may be the server's.
func TestAClientThatHasSaidAllIsResetIfTheTunnelIsLost(t *testing.T) {
	for end, after := range map[string]time.Duration{tunnelLost: 0, clientClosed: 1} {
		t.Run(end, func(t *testing.T) {
			noLeaks(t)
			far := answering(t, "tcp", func(c Stream) { _, _ = io.WriteString(c, "220 far\r\n"); _, _ = io.ReadAll(c) })
			f, log := patient(), new(journal)
			f.Log = log.log()
			c := call(t, serving(t, f, func(ctx context.Context) (Stream, error) {
				c, err := far.dial(ctx)
				if err != nil {
					return nil, err
				}
				return slowLease{lease{c.(*net.TCPConn), errors.New("killed")}, after, new(atomic.Int32)}, nil
			}).addr)
			says(t, c, "220 far\r\n")
			_ = c.CloseWrite()
			if rest, err := io.ReadAll(c); len(rest) > 0 || (err != nil) != (after == 0) {
				t.Errorf("%q, %v", rest, err)
			}
			until(t, "the visit is over", func() bool { return log.has(`"end":"` + end + `"`) })
		})
	}
}

func TestNobodyIsTakenForGoneWhenWeStopAsking(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	if untilGone(nil, func(net.Conn) bool { return false }, stop) {
		t.Error("gone")
	}
}

// TestAFarewellEndsAtOnce: the client need not wait until we have stopped reading.
func TestAFarewellEndsAtOnce(t *testing.T) {
	noLeaks(t)
	near := make(chan Stream, 1)
	far := answering(t, "tcp", func(c Stream) { near <- c; farewell(c, errLost) })
	c := must(far.dial(t.Context()))
	defer c.Close()
	<-near
	b, err := io.ReadAll(c)
	is421(t, string(b), errLost.Error())
	if err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("QUIT\r\n")); err != nil {
		t.Errorf("the other side does not read any more: %v", err)
	}
}

// A slow stream is that of a machine which is busy with others after each deadline
// that was set, for longer than a farewell may take to be read.
type slow struct{ Stream }

func (s slow) SetDeadline(at time.Time) error {
	defer time.Sleep(lingering + lingering/10)
	return s.Stream.SetDeadline(at)
}

func (s slow) SetReadDeadline(at time.Time) error {
	defer time.Sleep(lingering + lingering/10)
	return s.Stream.SetReadDeadline(at)
}

func (s slow) SetWriteDeadline(at time.Time) error {
	defer time.Sleep(lingering + lingering/10)
	return s.Stream.SetWriteDeadline(at)
}

// TestAFarewellArrivesThoughWeAreSlow: neither is it not said, nor taken back by a
// reset.
func TestAFarewellArrivesThoughWeAreSlow(t *testing.T) {
	noLeaks(t)
	said := make(chan struct{})
	far := answering(t, "tcp", func(c Stream) {
		_, _ = io.ReadFull(c, make([]byte, 1)) // more is there
		farewell(slow{c}, errLost)
		close(said)
	})
	c := must(far.dial(t.Context()))
	defer c.Close()
	_, _ = io.WriteString(c, "EHLO me\r\n")
	receive(t, "the end of the farewell", said)
	b, err := io.ReadAll(c)
	is421(t, string(b), errLost.Error())
	if err != nil {
		t.Error(err)
	}
}

func TestAFarewellNamesThisMachine(t *testing.T) {
	name, err := os.Hostname()
	if err != nil || name == "" {
		t.Skip("this machine has no name")
	}
	if got := reply421(errLost); !strings.HasPrefix(got, "421 "+name+" minimail: ") {
		t.Errorf("%q", got)
	}
}

func TestAllPrintableCharactersOfAReasonAreShown(t *testing.T) {
	is421(t, reply421(errors.New(" ~!|")), ":  ~!|")
}
