package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
)

func TestNoMoreThanMaxClientsAreServedAtATimeAndTheOthersWaitWhateverTheirListener(t *testing.T) {
	noLeaks(t)
	const places, clients = 3, 24
	var now, most atomic.Int32
	finish := make(chan struct{})
	end := answering(t, "tcp", func(c Stream) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-finish
		now.Add(-1)
		_, _ = io.WriteString(c, "served")
	})
	t.Cleanup(sync.OnceFunc(func() { close(finish) }))
	f := patient()
	f.MaxClients = places
	f.OnDialError = func(c Stream, err error) { t.Errorf("refused: %v", err); c.Close() }
	doors := []*run{serving(t, f, end.dial), serving(t, f, end.dial)}
	answers := make(chan string, clients)
	for i := range clients {
		c := call(t, doors[i%len(doors)].addr)
		go func() { // ends when the client is served, or at its deadline
			defer c.Close()
			b, err := io.ReadAll(c)
			answers <- fmt.Sprint(string(b), " ", err)
		}()
	}
	for left := clients; left > 0; left-- {
		until(t, "all places are taken", func() bool { return now.Load() >= min(places, int32(left)) })
		finish <- struct{}{}
		if a := receive(t, "a client's answer", answers); a != "served <nil>" {
			t.Fatalf("a client got %s", a)
		}
	}
	if m := most.Load(); m != places {
		t.Errorf("%d clients were served at a time, not %d", m, places)
	}
}

func TestServeReturnsNilWhenItIsStopped(t *testing.T) {
	noLeaks(t)
	r := serving(t, patient(), nil)
	r.stop()
	receive(t, "Serve's return", r.done)
	if r.err != nil {
		t.Error(r.err)
	}
	if !refusesConnections(t, r.addr) {
		t.Error("it still listens")
	}
}

func TestServeReturnsAnErrorWhenSomebodyElseClosesItsListener(t *testing.T) {
	noLeaks(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	r := servingOn(t, patient(), l, nil)
	l.Close()
	receive(t, "Serve's return", r.done)
	if !errors.Is(r.err, net.ErrClosed) {
		t.Errorf("Serve returned %v", r.err)
	}
}

// A flaky listener has to fail some times before each client.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsAreLoggedAndSurvived(t *testing.T) {
	noLeaks(t)
	var log journal
	end := answering(t, "tcp", func(c Stream) { _, _ = io.WriteString(c, "served") })
	f := patient()
	f.Log = log.log()
	l := &flaky{Listener: must(net.Listen("tcp", "127.0.0.1:0"))}
	l.fails.Store(4)
	r := servingOn(t, f, l, end.dial)
	if b, err := io.ReadAll(call(t, r.addr)); err != nil || string(b) != "served" {
		t.Errorf("%q, %v", b, err)
	}
	if n := strings.Count(log.String(), syscall.EMFILE.Error()); n != 4 {
		t.Errorf("%d errors in the log, not 4:\n%s", n, &log)
	}
}

func TestTheLogHasALineForEachClientAndNotAByteOfItsMail(t *testing.T) {
	noLeaks(t)
	var log journal
	end := answering(t, "tcp", func(c Stream) {
		_, _ = io.Copy(io.Discard, c)
		_, _ = io.WriteString(c, "SECRET answer")
	})
	f := patient()
	f.Log = log.log().Level(zerolog.TraceLevel)
	r := serving(t, f, end.dial)
	c := call(t, r.addr)
	_, _ = io.WriteString(c, "SECRET")
	_ = c.CloseWrite()
	_, _ = io.ReadAll(c)
	until(t, "the visit is in the log", func() bool { return log.has("client served") })
	var served []map[string]any
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["level"] != "debug" {
			served = append(served, m)
		}
	}
	if len(served) != 1 {
		t.Fatalf("%d lines:\n%s", len(served), &log)
	}
	for k, want := range map[string]any{"bytes_up": 6.0, "bytes_down": 13.0, "end": "client closed", "client": c.LocalAddr().String()} {
		if served[0][k] != want {
			t.Errorf("%s is %v, not %v", k, served[0][k], want)
		}
	}
	if log.has("SECRET") {
		t.Errorf("mail in the log:\n%s", &log)
	}
}

func TestNothingIsLeftOfManyClientsHoweverTheyEnd(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", func(c Stream) { _, _ = io.Copy(c, c) })
	var n atomic.Int32
	r := serving(t, patient(), func(ctx context.Context) (Stream, error) {
		if n.Add(1)%5 == 0 {
			return nil, errors.New("no luck")
		}
		return end.dial(ctx)
	})
	before := openFiles()
	var clients sync.WaitGroup
	for i := range 100 {
		clients.Go(func() {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				return // reset by the dial that had no luck
			}
			defer c.Close()
			_, _ = io.WriteString(c, "some mail")
			switch i % 4 {
			case 0:
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			case 1:
				reset(c.(Stream))
			case 2:
				_, _ = io.ReadFull(c, make([]byte, 4))
			}
		})
	}
	clients.Wait()
	// While it goes on serving, not only when it has ended.
	until(t, "no connection is left open", func() bool { return settled(before) })
}
