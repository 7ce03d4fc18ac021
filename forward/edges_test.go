package forward

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimesInTheLogAreRounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		time.Sleep(90*time.Second + 14*time.Microsecond)
		if got := since(began); got != 90*time.Second+10*time.Microsecond {
			t.Error(got)
		}
	})
}

func TestAClientThatLeavesIsClosedAndNotCounted(t *testing.T) {
	var log journal
	f := patient()
	f.clients = log.log()
	client, ours := newWire()
	s := service{open: t.Context(), dial: func(context.Context) (Stream, error) { return nil, ErrClientLeft }}
	if v := f.receive(t.Context(), ours, &s); v != nil {
		t.Errorf("%+v", v)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it is left open: %v", err)
	}
	if f.Stats() != (Stats{}) || !log.has(`"client has come"`) || !log.has(`"client left before it was served"`) {
		t.Errorf("%+v\n%s", f.Stats(), &log)
	}
}

// TestThereIsRoomForThoseWhoAreServedAndThoseWhoWait, or no limit.
func TestThereIsRoomForThoseWhoAreServedAndThoseWhoWait(t *testing.T) {
	for _, c := range []struct{ clients, waiting, room int }{{0, 5, 0}, {1, 0, 0}, {1, 1, 2}, {2, 3, 5}} {
		f := &Forwarder{MaxClients: c.clients, MaxWaiting: c.waiting}
		q := newQueue()
		q.Close()
		if err := f.Serve(t.Context(), q, nil); err == nil || cap(f.inside) != c.room || (f.gate != nil) != (c.clients > 0) {
			t.Errorf("%+v: %v, %d, %v", c, err, cap(f.inside), f.gate)
		}
	}
}

func TestWhoComesWhenAllRoomIsTakenWaitsUntilOneGoesOrWeStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Forwarder{inside: make(chan struct{}, 1)}
		ctx, stop := context.WithCancel(t.Context())
		if !f.comeIn(ctx) || len(f.inside) != 1 {
			t.Error("the first one is not in")
		}
		in := make(chan bool)
		for _, end := range []func(){f.goOut, stop} {
			go func() { in <- f.comeIn(ctx) }()
			synctest.Wait()
			if len(in) > 0 {
				t.Error("two are in")
			}
			end()
			if is := <-in; is != (ctx.Err() == nil) || len(f.inside) != 1 {
				t.Errorf("in: %v, and there are %d", is, len(f.inside))
			}
		}
		f.goOut()
		if f.comeIn(ctx) || len(f.inside) != 0 {
			t.Error("in when we have stopped")
		}
	})
}

// TestAMailClientThatReadsNothingIsCutOffAllTheSame, and does not hold up the end.
func TestAMailClientThatReadsNothingIsCutOffAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ours := newWire()
		server, theirs := newWire()
		ctx, stop := context.WithCancel(t.Context())
		v := newVisit(ctx, &Forwarder{DrainTimeout: 30 * time.Second}, ours, theirs, true)
		go func() { _, _ = server.Write([]byte("220 far\r\n")) }()
		began := time.Now()
		stop()
		v.serve()
		if d := time.Since(began); d < 30*time.Second || d > 30*time.Second+2*lingering {
			t.Errorf("cut off after %s", d)
		}
		if v.outcome != "cut off" || !errors.Is(v.cutBecause(), ErrStopping) {
			t.Errorf("%s: %v", v.outcome, v.cutBecause())
		}
	})
}

// TestWhatCouldNotBeWrittenIsKnown: nothing may be said in the middle of it.
func TestWhatCouldNotBeWrittenIsKnown(t *testing.T) {
	from, server := connected(t)
	to, client := connected(t)
	var seen string
	d := direction{from: server, to: client, seen: func(p []byte) { seen += string(p) }}
	_, _ = from.Write([]byte("220 "))
	if err := d.chunk(); err != nil || d.stuck || d.n != 4 || seen != "220 " {
		t.Errorf("%v, %v, %d, %q", err, d.stuck, d.n, seen)
	}
	client.Close()
	_, _ = from.Write([]byte("far"))
	if err := d.chunk(); err == nil || !d.stuck || d.n != 4 || seen != "220 far" {
		t.Errorf("%v, %v, %d, %q", err, d.stuck, d.n, seen)
	}
	from.Close()
	if err := d.chunk(); err != io.EOF {
		t.Error(err)
	}
	to.Close()
}
