package tunnel

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestWhateverHappensTheTunnelKeepsItsPromises plays at random with clients,
// ssh and the clock. That there is never a second ssh, that none is launched
// without a client and that none is told to go under a connected one, the
// world itself checks; that nothing is left at the end, the bubble.
func TestWhateverHappensTheTunnelKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, play) })
}

// durations are around the ones that matter, and never zero: a client that has
// left when its launch begins is no error.
func durations(most time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(1, int64(most/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
	})
}

func play(t *rapid.T) {
	idle := rapid.SampledFrom([]time.Duration{0, time.Second, 10 * time.Second}).Draw(t, "idle")
	jitter := rapid.SampledFrom([]time.Duration{0, time.Second, 25 * time.Second}).Draw(t, "jitter")
	w := newWorld(t, Config{Idle: idle, Jitter: jitter})
	// Drawn now, for launches are no part of the sequence of actions.
	lives := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) life {
		ready := rapid.SampledFrom([]time.Duration{0, 200 * time.Millisecond, 3 * time.Second, time.Minute, never}).Draw(t, "ready")
		return life{
			ready: ready, letIn: ready + 1,
			stopTakes: rapid.SampledFrom([]time.Duration{0, time.Millisecond, 5 * time.Second}).Draw(t, "stop takes"),
		}
	}), 4, 4).Draw(t, "lives")
	w.plan = func(n int) life { return lives[n%len(lives)] }

	var dialing, connected []*client
	pick := func(t *rapid.T, from *[]*client) *client {
		if len(*from) == 0 {
			t.Skip("nobody")
		}
		i := rapid.IntRange(0, len(*from)-1).Draw(t, "who")
		k := (*from)[i]
		*from = append((*from)[:i:i], (*from)[i+1:]...)
		return k
	}
	sort := func() { // clients by what has become of them
		still := dialing[:0:0]
		for _, k := range dialing {
			select {
			case <-k.done:
				if k.err == nil {
					connected = append(connected, k)
				}
			default:
				still = append(still, k)
			}
		}
		dialing = still
	}
	t.Cleanup(func() {
		for _, k := range dialing {
			k.giveUp(nil)
			if <-k.done; k.err == nil {
				connected = append(connected, k)
			}
		}
		for _, k := range connected {
			k.leaves()
		}
		// All by itself, and without Run's being stopped, it goes down.
		time.Sleep(loginLimit + idle + jitter + 5*time.Second + time.Nanosecond)
		synctest.Wait()
		w.noneRuns()
	})
	end := func(why error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.last(); s != nil && s.ended.IsZero() && s.told.IsZero() && len(s.die) == 0 {
			s.die <- why
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"a client comes": func(t *rapid.T) {
			dialing = append(dialing, w.comes(durations(time.Minute).Draw(t, "patience")))
		},
		"a client is picky": func(t *rapid.T) {
			fails := rapid.IntRange(0, 3).Draw(t, "fails")
			takes := durations(3*time.Second).Draw(t, "takes")
			dialing = append(dialing, w.comes(durations(time.Minute).Draw(t, "patience"), func(ctx context.Context, _ net.Conn) error {
				select {
				case <-time.After(takes):
				case <-ctx.Done():
					return ctx.Err()
				}
				if fails--; fails >= 0 {
					return errors.New("not answered")
				}
				return nil
			}))
		},
		"a client leaves": func(t *rapid.T) { pick(t, &connected).leaves() },
		"a client gives up": func(t *rapid.T) {
			k := pick(t, &dialing)
			k.giveUp(nil)
			dialing = append(dialing, k) // until it has noticed
		},
		"a little time passes": func(t *rapid.T) { time.Sleep(durations(2*time.Second).Draw(t, "time")) },
		"time passes":          func(t *rapid.T) { time.Sleep(durations(40*time.Second).Draw(t, "time")) },
		"much time passes":     func(t *rapid.T) { time.Sleep(durations(time.Hour).Draw(t, "time")) },
		"ssh fails":            func(t *rapid.T) { end(errRefused) },
		"ssh is rejected":      func(t *rapid.T) { end(rejected) },
		"the user hangs up":    func(t *rapid.T) { w.Forget() },
		"": func(t *rapid.T) {
			synctest.Wait()
			sort()
			w.mu.Lock()
			defer w.mu.Unlock()
			for i, s := range w.lives {
				at, running := s.told, false
				if running = s.told.IsZero() && s.ended.IsZero(); running {
					at = time.Now().Add(1) // who has come just now is a client
				}
				switch in := s.began.Add(s.letIn); {
				case at.IsZero(): // it has ended by itself
				case at.Before(in) && (at.Sub(s.began) > loginLimit+1 || !running && at.Sub(s.began) < loginLimit):
					t.Fatalf("launch %d: not let in, and told to go (%t) after %s", i, !running, at.Sub(s.began))
				case at.Before(in):
				default:
					// From when on it was of no use to anybody: clients, or a login.
					since := func(certain bool) time.Duration {
						if d := w.unused(s, at, certain); d < at.Sub(in) {
							return d
						}
						return at.Sub(in)
					}
					if d := since(true); !running && (d < idle || at.Sub(s.began) < betweenLaunches) {
						t.Fatalf("launch %d: told to go %s after its launch and %s after the last use (-1ns: in use), want at least %s", i, at.Sub(s.began), d, idle)
					}
					if d := since(false); d > idle+jitter+1 && at.Sub(s.began) > betweenLaunches+1 {
						t.Fatalf("launch %d: up %s after the last use", i, d)
					}
				}
			}
		},
	})
}
