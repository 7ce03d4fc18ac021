package forward

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// handsOver is a socket with two listeners, as of two processes.
func handsOver(t *testing.T) (ours, heirs net.Listener) {
	t.Helper()
	ours = must(net.Listen("tcp", "127.0.0.1:0"))
	file := must(ours.(*net.TCPListener).File())
	defer file.Close()
	heirs = must(net.FileListener(file))
	t.Cleanup(func() { heirs.Close() })
	return ours, heirs
}

func TestClientsThatWaitGoToTheHeirAndTheQueueIsLeftToIt(t *testing.T) {
	noLeaks(t)
	const waitingForAPlace = 4
	ours, heirs := handsOver(t)
	passed := make(chan net.Conn, 1+waitingForAPlace)
	var log journal
	f := patient()
	f.Log = log.log()
	f.MaxClients = 1
	f.OnDialError = func(c Stream, err error) { c.Close(); t.Errorf("turned away: %v", err) }
	f.Heir = func(at net.Addr) (func(net.Conn), bool) {
		if at.String() != heirs.Addr().String() {
			t.Errorf("asked for %s", at)
		}
		return func(c net.Conn) { passed <- c }, true
	}
	dialing, causes := make(chan struct{}, 1+waitingForAPlace), make(chan error, 1+waitingForAPlace)
	wait := waiting(causes)
	r := servingOn(t, f, ours, func(ctx context.Context) (Stream, error) {
		dialing <- struct{}{}
		return wait(ctx)
	})
	call(t, r.addr)
	receive(t, "the first client's dial", dialing)
	for range waitingForAPlace {
		call(t, r.addr)
	}
	r.stop()
	receive(t, "Serve's return", r.done)
	n := len(passed)
	if got := strings.Count(log.String(), "client passed on"); got != n {
		t.Errorf("%d clients are passed on, and %d by the log", n, got)
	}
	for range n {
		(<-passed).Close()
	}
	_ = heirs.(*net.TCPListener).SetDeadline(time.Now().Add(enough))
	for ; n < 1+waitingForAPlace; n++ {
		must(heirs.Accept()).Close()
	}
}

// A mayBeLate is a listener that knows whether it has been told when to end.
type mayBeLate struct {
	net.Listener
	told atomic.Bool
}

func (l *mayBeLate) SetDeadline(t time.Time) error {
	l.told.Store(true)
	return l.Listener.(*net.TCPListener).SetDeadline(t)
}

func TestTheQueueIsEmptiedAtTheEndUnlessItIsAnHeirs(t *testing.T) {
	for _, heir := range []bool{false, true} {
		f := patient()
		f.Heir = func(net.Addr) (func(net.Conn), bool) { return nil, heir }
		l := &mayBeLate{Listener: must(net.Listen("tcp", "127.0.0.1:0"))}
		r := servingOn(t, f, l, nil)
		r.stop()
		receive(t, "Serve's return", r.done)
		if l.told.Load() == heir {
			t.Errorf("with an heir: %v; who is in the queue is accepted: %v", heir, l.told.Load())
		}
	}
}

func TestWithoutAnybodyToPassThemToClientsGoOnWaiting(t *testing.T) {
	noLeaks(t)
	ours, _ := handsOver(t)
	f := patient()
	f.DrainTimeout = time.Hour
	f.Heir = func(net.Addr) (func(net.Conn), bool) { return nil, true }
	end := answering(t, "tcp", echoes)
	dialing, ready := make(chan struct{}, 1), make(chan struct{})
	r := servingOn(t, f, ours, func(ctx context.Context) (Stream, error) {
		dialing <- struct{}{}
		select {
		case <-ready:
			return end.dial(ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	c := call(t, r.addr)
	receive(t, "the dial", dialing)
	r.stop()
	close(ready)
	says(t, c, "220 far\r\n")
	c.Close()
}
