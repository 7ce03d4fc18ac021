package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// The state table of the supervisor, cell by cell. The columns of the countdown
// are in countdown_test.go, the rows of the back-off in backoff_test.go.

func TestNothingLaunchesWithoutAClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second})
		time.Sleep(24 * time.Hour)
		w.Forget()
		w.launched(0)
	})
}

func TestTheFirstClientLaunchesSSH(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second})
		time.Sleep(time.Hour)
		came := time.Now()
		w.comes(never).connected().waitedFor(dialTakes).leaves()
		if s := w.launched(1); s.began != came {
			t.Errorf("launched %s after the client came", s.began.Sub(came))
		}
	})
}

func TestTheSecondClientSharesTheLaunch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second}, life{ready: time.Minute})
		a, b := w.comes(never), w.comes(never)
		defer a.connected().leaves()
		defer b.connected().leaves()
		c := w.comes(never).connected().waitedFor(dialTakes)
		defer c.leaves()
		w.launched(1)
	})
}

func TestAWaitingClientIsConnectedSoonAfterSSHIsReady(t *testing.T) {
	// Many, for a long pause between two tries may happen to end just in time.
	for ready := time.Millisecond; ready < 20*time.Second; ready += ready/11 + time.Millisecond {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{}, life{ready: ready})
			k := w.comes(never).connected()
			k.leaves()
			// The longest pause between two tries, and the two tries.
			most := ready + max(2*time.Millisecond, min(ready/64, 50*time.Millisecond)) + 2*dialTakes
			if k.waited < ready || k.waited > most {
				t.Errorf("ssh was ready after %s, the client was connected after %s, want at most %s", ready, k.waited, most)
			}
		})
	}
}

func TestWhenTheHostHasLetSSHInTheNearEndIsTriedAtOnceAndEachMillisecond(t *testing.T) {
	for _, letIn := range []time.Duration{10*time.Second + 123*time.Microsecond, 20 * time.Second} {
		for later := time.Duration(0); later < 10*time.Millisecond; later += 700 * time.Microsecond {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{}, life{letIn: letIn, ready: letIn + later})
				k := w.comes(never).connected()
				k.leaves()
				// A pause, and a try.
				if most := letIn + later + time.Millisecond + dialTakes; k.waited < letIn+later || k.waited > most {
					t.Errorf("let in after %s, ready %s later: connected after %s, want at most %s", letIn, later, k.waited, most)
				}
			})
		}
	}
}

func TestAHostThatIsSlowAfterTheLoginIsNotTriedEachMillisecondForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{letIn: time.Second, ready: time.Hour})
		k := w.comes(time.Minute)
		<-k.done
		if n := w.tries; n < 1000 || n > 2500 {
			t.Errorf("tried %d times in a minute", n)
		}
	})
}

func TestAConnectionGivesItsLeaseBackOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second})
		a, b := w.comes(never).connected(), w.comes(never).connected()
		a.leaves()
		for range 2 {
			if err := a.conn.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed again: %v", err)
			}
		}
		time.Sleep(time.Hour)
		w.isUp()
		b.leaves()
		last := time.Now()
		time.Sleep(time.Hour)
		w.launched(1).toldAfter(t, last, time.Second)
	})
}

func TestNewcomersWaitWhileTheTunnelClosesAndRelaunchWithoutBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{stopTakes: 3 * time.Second})
		w.comes(never).connected().leaves()
		time.Sleep(11 * time.Second)
		a := w.comes(never)
		time.Sleep(time.Second)
		b := w.comes(never)
		synctest.Wait()
		first := w.launched(1)
		w.comes(time.Second - 1).refused("the last tunnel is still closing").waitedFor(time.Second - 1)
		// One of them finds out that the tunnel answers, then the other dials.
		early, late := a.connected().waited-2*time.Second, b.connected().waited-time.Second
		if min(early, late) != dialTakes || max(early, late) != 2*dialTakes {
			t.Errorf("connected %s and %s after the end of the last tunnel", early, late)
		}
		if s := w.launched(2); s.began != first.ended || first.ended.Sub(first.told) != 3*time.Second {
			t.Errorf("relaunched %s after the end", s.began.Sub(first.ended))
		}
		a.leaves()
		b.leaves()
	})
}

func TestALoginIsNotBrokenOffBecauseItsClientsHaveLeft(t *testing.T) {
	const still = "no tunnel to far: ssh is still trying after %d s; with a longer --wait you may get through"
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{ready: 31 * time.Second})
		a, b := w.comes(5*time.Second), w.comes(7*time.Second)
		a.refused(fmt.Sprintf(still, 5)).waitedFor(5 * time.Second)
		b.refused(fmt.Sprintf(still, 7)).waitedFor(7 * time.Second)
		time.Sleep(20 * time.Second)
		k := w.comes(25 * time.Second).connected()
		if most := 4*time.Second + 50*time.Millisecond + 2*dialTakes; k.waited < 4*time.Second || k.waited > most {
			t.Errorf("connected after %s, want 4 s", k.waited)
		}
		k.leaves()
		last := time.Now()
		time.Sleep(time.Hour)
		w.launched(1).toldAfter(t, last, 10*time.Second)
	})
}

func TestALaunchThatDoesNotLogInIsEndedAfterTwoMinutes(t *testing.T) {
	for name, s := range map[string]life{"without a word": {ready: never, stopTakes: 2 * time.Second}, "which was let in": {ready: never, letIn: time.Minute}, "which answers": {ready: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{Idle: 10 * time.Second}, s)
				began := time.Now()
				k := w.comes(3 * time.Hour)
				time.Sleep(loginLimit - 1)
				w.isUp()
				if name != "without a word" {
					time.Sleep(time.Hour)
					w.isUp()
					w.launched(1)
				} else {
					time.Sleep(time.Second)
					w.launched(1).toldAfter(t, began, loginLimit)
					k.connected() // by the next one
					if second := w.launched(2).began.Sub(w.launches()[0].ended); second < 3*time.Second || second > 3600*time.Millisecond {
						t.Errorf("relaunched after %s, want a pause of 3 s, as the host may have counted it", second)
					}
					if s := w.Status(); s.LastError == nil || s.LastError.Error() != "ssh has not logged in after 2 min" {
						t.Errorf("the reason is %v", s.LastError)
					}
				}
				k.giveUp(nil)
				if <-k.done; k.err == nil {
					k.leaves()
				}
			})
		})
	}
}

func TestTheReasonOfALoginThatIsTooSlowHasWhatWasSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: never})
		k := w.comes(loginLimit)
		synctest.Wait()
		w.launched(1).l.remember(Meaning{Why: "Confirm user presence"})
		<-k.done
		time.Sleep(time.Second)
		if s := w.Status(); s.LastError == nil || s.LastError.Error() != "ssh has not logged in after 2 min (Confirm user presence)" {
			t.Errorf("the reason is %v", s.LastError)
		}
	})
}

// states are ways to bring a tunnel into each of its states.
var states = []struct {
	name string
	stop time.Duration // how long Run takes to return
	into func(w *world) (waiting []*client)
}{
	{"down", 0, func(w *world) []*client { return nil }},
	{"launching", 3 * time.Second, func(w *world) []*client {
		w.plan = func(int) life { return life{ready: never, stopTakes: 3 * time.Second} }
		return []*client{w.comes(never), w.comes(never)}
	}},
	{"up with a client", 3 * time.Second, func(w *world) []*client {
		w.plan = func(int) life { return life{stopTakes: 3 * time.Second} }
		k := w.comes(never).connected()
		context.AfterFunc(stoppedContext(w), k.leaves)
		return nil
	}},
	{"in its countdown", 3 * time.Second, func(w *world) []*client {
		w.plan = func(int) life { return life{stopTakes: 3 * time.Second} }
		w.comes(never).connected().leaves()
		time.Sleep(5 * time.Second)
		return nil
	}},
	{"closing", 2 * time.Second, func(w *world) []*client {
		w.plan = func(int) life { return life{stopTakes: 3 * time.Second} }
		w.comes(never).connected().leaves()
		time.Sleep(11 * time.Second)
		return []*client{w.comes(never)}
	}},
	{"backing off", 0, func(w *world) []*client {
		w.plan = func(int) life { return life{ready: never, lasts: 1, why: errRefused} }
		defer time.Sleep(time.Second / 2)
		return []*client{w.comes(never), w.comes(never)}
	}},
	{"backing off after a rejection", 0, func(w *world) []*client {
		w.plan = func(int) life { return life{ready: never, lasts: 1, why: rejected} }
		<-w.comes(never).done
		return nil
	}},
}

// stoppedContext is done when Run has returned.
func stoppedContext(w *world) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-w.stopped; cancel() }()
	return ctx
}

func TestRunStopsSSHAndReturnsWhenItsContextIsDone(t *testing.T) {
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{Idle: 10 * time.Second})
				waiting := state.into(w)
				launches := len(w.launches())
				began := time.Now()
				w.stopRun()
				<-w.stopped
				if d := time.Since(began); d != state.stop {
					t.Errorf("Run returned after %s, want %s", d, state.stop)
				}
				for _, k := range waiting {
					k.refused(ErrStopped.Error())
					// A dial that is under way may end first.
					if d := time.Since(began); d < state.stop || d > state.stop+dialTakes {
						t.Errorf("a waiting client learned it after %s, want %s", d, state.stop)
					}
				}
				w.comes(never).refused(ErrStopped.Error()).waitedFor(0)
				w.Forget() // must return
				synctest.Wait()
				w.launched(launches)
				w.noneRuns()
			})
		})
	}
}

func TestAClientIsToldTheCauseOfItsContext(t *testing.T) {
	cause := errors.New("the client has left")
	for _, state := range states {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{Idle: 10 * time.Second})
			for _, k := range state.into(w) {
				k.giveUp(cause)
				if k.refused(cause.Error()); !errors.Is(k.err, cause) {
					t.Errorf("%s: got %#v", state.name, k.err)
				}
			}
			w.stopRun()
			<-w.stopped
			synctest.Wait()
		})
	}
}
