package tunnel

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoWaitsAndWhoWorksIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour})
		is := func(what string, waiting, working int) {
			t.Helper()
			synctest.Wait()
			l := w.launched(1).l
			if a, b := l.users.count(); a != waiting || b != working {
				t.Errorf("%s: %d wait and %d work, want %d and %d", what, a, b, waiting, working)
			}
			l.wire.mu.Lock()
			defer l.wire.mu.Unlock()
			if l.wire.waiting != waiting && len(l.wire.sockets) > 0 {
				t.Errorf("%s: the wire knows of %d who wait, want %d", what, l.wire.waiting, waiting)
			}
		}
		one := w.comes(never).connected()
		w.launched(1).l.wire.take([]socket{{pid: 0}})
		is("one is served", 0, 1)
		slow := func(context.Context, net.Conn) error { time.Sleep(time.Minute); return nil }
		two := w.comes(never, slow)
		time.Sleep(time.Second)
		is("another waits", 1, 1)
		two.connected()
		is("both are served", 0, 2)
		w.comes(time.Second, func(context.Context, net.Conn) error { return errors.New("no") }).refused("the tunnel to far is up, but: no")
		is("a third has given up", 0, 2)
		one.leaves()
		is("one has left", 0, 1)
		two.leaves()
		is("both have", 0, 0)
	})
}
