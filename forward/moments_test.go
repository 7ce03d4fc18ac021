package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoWaitsWhenWeStopMayGoOnIfAnHeirCannotBeGivenHim, as long as clients at work
// may finish, and else not a moment.
func TestWhoWaitsWhenWeStopMayGoOnIfAnHeirCannotBeGivenHim(t *testing.T) {
	pass := func(net.Conn) {}
	for name, c := range map[string]struct {
		heir func(net.Addr) (func(net.Conn), bool)
		want time.Duration
	}{
		"no heir":          {nil, 0},
		"none for this":    {func(net.Addr) (func(net.Conn), bool) { return nil, false }, 0},
		"an heir":          {func(net.Addr) (func(net.Conn), bool) { return pass, true }, 0},
		"an heir, no pass": {func(net.Addr) (func(net.Conn), bool) { return nil, true }, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &Forwarder{DrainTimeout: 30 * time.Second, Heir: c.heir}
			ctx, stop := context.WithCancel(t.Context())
			open, closed := f.stopping(ctx, nil)
			defer closed()
			time.Sleep(time.Hour)
			if open.Err() != nil {
				t.Errorf("%s: closed before we stop", name)
			}
			began := time.Now()
			stop()
			<-open.Done()
			if d := time.Since(began); d != c.want || context.Cause(open) != ErrStopping {
				t.Errorf("%s: after %s: %v", name, d, context.Cause(open))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := &Forwarder{DrainTimeout: time.Hour, Heir: func(net.Addr) (func(net.Conn), bool) {
			t.Error("the heir is asked when all is over")
			return nil, true
		}}
		ctx, stop := context.WithCancel(t.Context())
		open, closed := f.stopping(ctx, nil)
		closed()
		stop()
		synctest.Wait()
		if open.Err() == nil || context.Cause(open) == ErrStopping {
			t.Errorf("when all is over: %v", context.Cause(open))
		}
	})
}

// TestAListenerOfWhatCannotBeForwardedIsAnError: one of TLS, say.
func TestAListenerOfWhatCannotBeForwardedIsAnError(t *testing.T) {
	theirs, ours := net.Pipe()
	f := patient()
	if err := f.Serve(t.Context(), newQueue(ours), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it is left open: %v", err)
	}
}

func TestOnlySoManyAreGivenTimeToReadWhyTheyAreRefused(t *testing.T) {
	for others, told := range map[int64]bool{maxRefusing - 1: true, maxRefusing: false} {
		f := patient()
		f.refusing.Store(others)
		client, ours := newWire()
		why, asked := errors.New("no"), false
		s := service{open: t.Context(), dial: func(context.Context) (Stream, error) { return nil, why }}
		s.refuse = func(c Stream, err error) { asked = err == why; c.Close() }
		if v := f.receive(t.Context(), ours, &s); v != nil || asked != told {
			t.Errorf("beside %d others: told %v", others, asked)
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("beside %d others: %v", others, err)
		}
		if n := f.refusing.Load(); n != others {
			t.Errorf("%d are refused when one of %d others has gone", n, others)
		}
		if want := (Stats{Refused: 1}); f.Stats() != want {
			t.Errorf("%+v", f.Stats())
		}
		if _, got := f.LastRefusal(); got != why {
			t.Errorf("the last refusal: %v", got)
		}
	}
}

func TestAPlaceIsGivenBackWhenThereIsNoConnection(t *testing.T) {
	f := patient()
	f.gate = newGate(1, 0, nil)
	_, ours := newWire()
	s := service{open: t.Context(), dial: func(context.Context) (Stream, error) { return nil, io.ErrUnexpectedEOF }}
	for range 2 {
		if c, place, err := f.dial(ours, &s); c != nil || err != io.ErrUnexpectedEOF || f.gate.taken != 0 {
			t.Fatalf("%v, %q, %v; %d places are taken", c, place, err, f.gate.taken)
		}
	}
	s.dial = func(context.Context) (Stream, error) { return ours, nil }
	if c, place, err := f.dial(ours, &s); c != ours || place != "anybody" || err != nil || f.gate.taken != 1 {
		t.Errorf("%v, %q, %v; %d places are taken", c, place, err, f.gate.taken)
	}
	f.DialTimeout = 0
	if c, place, err := f.dial(ours, &s); c != nil || place != "" || err == nil || f.gate.taken != 1 {
		t.Errorf("%v, %q, %v; %d places are taken", c, place, err, f.gate.taken)
	}
}

func TestAClientGotNothingIfItsServerEndedWithoutAByte(t *testing.T) {
	for outcome, want := range map[string]bool{
		serverClosed: true, "server reset": true, "tunnel lost": true, clientClosed: false, "client reset": false, "cut off": false,
	} {
		for n, nothing := range map[int64]bool{0: want, 1: false} {
			if got := (&visit{outcome: outcome, down: direction{n: n}}).gotNothing(); got != nothing {
				t.Errorf("%s after %d bytes: %v", outcome, n, got)
			}
		}
	}
}

func TestAVisitHasTheOutcomeThatWasSeenFirst(t *testing.T) {
	v := new(visit)
	v.concluded(clientClosed)
	v.concluded("cut off")
	if !v.concludedBy(clientClosed) || v.concludedBy("cut off") || v.concludedBy("") {
		t.Errorf("%q", v.outcome)
	}
}

func TestAStopIsNoRefusalThatCounts(t *testing.T) {
	f := patient()
	_, ours := newWire()
	f.turnedAway(ours, time.Now(), ErrStopping)
	if at, why := f.LastRefusal(); why != nil || !at.IsZero() || f.Stats().Refused != 1 {
		t.Errorf("%v, at %s", why, at)
	}
}

// TestNobodyIsDialedForWhenWeHaveStopped, also not who gets a place in that moment.
func TestNobodyIsDialedForWhenWeHaveStopped(t *testing.T) {
	f := patient()
	f.gate = newGate(1, 0, nil)
	_, ours := newWire()
	open, stop := context.WithCancelCause(t.Context())
	stop(ErrStopping)
	s := service{open: open, dial: func(context.Context) (Stream, error) {
		t.Error("dialed")
		return nil, io.ErrUnexpectedEOF
	}}
	for range 50 { // it is a race
		if c, place, err := f.dial(ours, &s); c != nil || !errors.Is(err, ErrStopping) || f.gate.taken != 0 {
			t.Fatalf("%v, %q, %v; %d places are taken", c, place, err, f.gate.taken)
		}
	}
}
