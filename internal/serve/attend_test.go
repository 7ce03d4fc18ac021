package serve

import (
	"context"
	"sync"
	"testing"

	"minimail/internal/daemon"
	"minimail/tunnel"
)

func TestSSHIsAskedAnewOnlyWhenThereIsNoTunnel(t *testing.T) {
	for state, want := range map[tunnel.State]bool{tunnel.Down: true, tunnel.BackingOff: true, tunnel.Starting: false, tunnel.Up: false, tunnel.Closing: false} {
		ctx, cancel := context.WithCancel(t.Context())
		l := &life{tell: daemon.NewTeller()}
		var asking sync.WaitGroup
		l.changed(ctx, tunnel.Status{State: state}, &asking)
		if got := l.asks.Load(); got != want {
			t.Errorf("%v: %v, want %v", state, got, want)
		}
		cancel() // before it is time to ask
		asking.Wait()
		if l.asks.Load() {
			t.Errorf("%v: it is asked for ever", state)
		}
	}
}
