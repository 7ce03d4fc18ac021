package tunnel

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestHowALaunchHasEndedIsLoggedAndDecidesOnThePauses: they begin anew after what
// has worked and lasted, or was closed.
func TestHowALaunchHasEndedIsLoggedAndDecidesOnThePauses(t *testing.T) {
	const closed = `{"level":"info","lasted":%q,"message":"the tunnel is closed"}` + "\n"
	const failed = `{"level":"warn","why":%q,"lasted":%q,"back_off":%q,"message":"the tunnel has ended by itself%s"}` + "\n"
	const mended = "; once that is mended, a restart or a HUP tries again at once"
	for _, test := range []struct {
		name              string
		answered, closing bool
		lasted            time.Duration
		kind              string
		failures          int // in a row, after it
	}{
		{"closed after an answer", true, true, time.Second, "", 0},
		{"closed without one", false, true, time.Minute, "", 3},
		{"failed after an answer that lasted", true, false, 30 * time.Second, Unseen, 1},
		{"failed after an answer", true, false, 30*time.Second - 1, Unseen, 4},
		{"failed without an answer", false, false, time.Minute, Unseen, 4},
		{"rejected", false, false, time.Second, Definite, 1},
	} {
		bubble(t, func(t *testing.T) {
			log := new(logBook)
			tun := New(Config{Log: zerolog.New(log)})
			l := newLaunch(Command{})
			defer l.stop(nil)
			l.closing, l.err = test.closing, failure{why: errors.New("the reason"), kind: test.kind}
			if test.answered {
				close(l.answered)
			}
			time.Sleep(test.lasted)
			pauses := backOff{failures: map[string]int{Unseen: 3}, since: time.Now()}
			tun.hasEnded(l, &pauses)
			kind := test.kind
			if kind == Definite {
				kind = Unclear // they share a place
			} else if kind == "" {
				kind = Unseen
			}
			if n := pauses.failures[kind]; n != test.failures {
				t.Errorf("%s: %d failures in a row, want %d", test.name, n, test.failures)
			}
			lasted := test.lasted.Round(time.Millisecond).String()
			want := fmt.Sprintf(closed, lasted)
			if !test.closing {
				hint := ""
				if test.kind == Definite {
					hint = mended
				}
				want = fmt.Sprintf(failed, "the reason", lasted, time.Until(pauses.until).Round(time.Millisecond), hint)
			}
			if log.String() != want {
				t.Errorf("%s: the log is %s, want %s", test.name, log, want)
			}
		})
	}
}

func TestTheCountdownOfALaunchThatNobodyHasWaitedForIsLoggedAsThat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := new(logBook)
		w := newWorld(t, Config{Idle: 10 * time.Second, Log: zerolog.New(log)}, life{letIn: time.Minute, ready: never})
		<-w.comes(time.Second).done
		time.Sleep(time.Minute)
		synctest.Wait()
		want := `{"level":"info","closes_in":"10s","message":"the host has let ssh in, and nobody waits any more: countdown started"}` + "\n"
		if log.String() != want {
			t.Errorf("the log is %s, want %s", log, want)
		}
	})
}
