package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

var errStranger = errors.New("it belongs to uid 1001")

func TestAnUntrustedNearEndIsNeverUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		log := new(strings.Builder)
		var refused []net.Conn
		w := newWorld(t, Config{Idle: time.Hour, Log: zerolog.New(log), Prove: leads(func(_ context.Context, c net.Conn) error {
			if time.Since(began) < 3*time.Second {
				refused = append(refused, c)
				return errStranger
			}
			return nil
		})})
		var asked time.Duration
		answered := func(_ context.Context, c net.Conn) error {
			asked = time.Since(began)
			return nil
		}
		short := w.comes(2*time.Second, answered)
		k := w.comes(never, answered).connected()
		short.refused("no tunnel to far: it belongs to uid 1001").waitedFor(2 * time.Second)
		// Each of them tries once a second, one after the other.
		if k.waited < 3*time.Second || k.waited > 3*time.Second+5*dialTakes || asked != k.waited {
			t.Errorf("asked for an answer after %s, connected after %s", asked, k.waited)
		}
		if len(refused) != 5 {
			t.Errorf("tried %d times, want 3 times in 3 s and 2 times in 2 s", len(refused))
		}
		for _, c := range refused {
			if !c.(*fakeConn).closed {
				t.Fatal("an untrusted connection is still open")
			}
		}
		if slices.Contains(refused, net.Conn(k.conn.stream)) {
			t.Error("an untrusted connection was handed out")
		}
		k.leaves()
		synctest.Wait()
		if n := strings.Count(log.String(), errStranger.Error()); n > 2 {
			t.Errorf("two clients logged the same stranger %d times", n)
		} else if n == 0 || !strings.Contains(log.String(), "127.0.0.1:1025") {
			t.Errorf("not logged: %s", log)
		}
	})
}

func TestAnUntrustedNearEndIsNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Prove: leads(func(context.Context, net.Conn) error { return errStranger })})
		var clients []*client
		for range 10 {
			clients = append(clients, w.comes(time.Second))
		}
		for _, k := range clients {
			<-k.done
		}
		if n := w.mostDialing(); n != 1 {
			t.Errorf("%d clients tried at a time, though no trusted near end had answered", n)
		}
	})
}

// The first client of a near end learns where it is, and is checked before it
// waits; the others are checked when they have been answered.
func TestANearEndThatIsKnownIsCheckedWhenItHasAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []string
		trusted := true
		w := newWorld(t, Config{Idle: time.Hour, Prove: leads(func(context.Context, net.Conn) error {
			seen = append(seen, "checked")
			if !trusted {
				return errStranger
			}
			return nil
		})})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if strings.HasPrefix(address, "127.") {
				return nil, syscall.ECONNREFUSED
			}
			seen = append(seen, "dialed "+address)
			return dial(ctx, network, address)
		}
		answered := func(context.Context, net.Conn) error { seen = append(seen, "answered"); return nil }
		comes := func(patience time.Duration) *client {
			seen = nil
			return w.comesTo("tcp", "localhost:1025", patience, answered)
		}
		is := func(want ...string) {
			t.Helper()
			if !slices.Equal(seen, want) {
				t.Errorf("%q, want %q", seen, want)
			}
		}
		first := comes(never).connected()
		is("dialed [::1]:1025", "checked", "answered")
		second := comes(never).connected()
		is("dialed [::1]:1025", "answered", "checked")

		trusted = false
		comes(time.Second / 2).refused("the tunnel to far is up, but: " + errStranger.Error())
		is("dialed [::1]:1025", "answered", "checked")
		trusted = true
		third := comes(never).connected()
		is("dialed [::1]:1025", "checked", "answered") // it is not known any more
		for _, k := range []*client{first, second, third} {
			k.leaves()
		}
	})
}

// ssh drops a connection whose far port is closed. The other address would be
// its own as well, and the far port tried twice as often.
func TestADroppedConnectionIsNotTriedAtTheOtherAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var dialed []string
		log := new(strings.Builder)
		w := newWorld(t, Config{Log: zerolog.New(log), Prove: leads(func(context.Context, net.Conn) error { return ErrDropped })})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			dialed = append(dialed, address)
			return dial(ctx, network, address)
		}
		w.comesTo("tcp", "localhost:1025", 2*time.Second+time.Second/2, nil).refused("no tunnel to far: " + ErrDropped.Error())
		synctest.Wait()
		if want := []string{"127.0.0.1:1025", "127.0.0.1:1025", "127.0.0.1:1025"}; !slices.Equal(dialed, want) {
			t.Errorf("dialed %q, want once a second %q", dialed, want[0])
		}
		if strings.Contains(log.String(), "was not used") {
			t.Errorf("ssh was taken for a stranger: %s", log)
		}
	})
}
