package tunnel

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// errRefused and rejected are ends of a launch: the network may mend the one, a
// person has to mend the other.
var (
	errRefused = failure{why: errors.New("ssh: connect to host far port 22: Connection refused"), kind: Unseen}
	rejected   = failure{why: errors.New("me@far: Permission denied (publickey)"), kind: Definite}
)

// failing is a plan of launches that all end after lasts because of why.
func failing(lasts time.Duration, why error) func(int) life {
	return func(int) life { return life{ready: never, lasts: lasts, why: why} }
}

func TestClientsWaitThroughTheBackOffAndRelaunch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second}, life{ready: never, lasts: 2 * time.Second, why: errRefused})
		a, b := w.comes(25*time.Second).connected(), w.comes(25*time.Second)
		b.connected()
		first, second := w.launches()[0], w.launched(2)
		within(t, "pause", second.began.Sub(first.ended), time.Second)
		if waited := second.began.Sub(a.began) + dialTakes; a.waited != waited {
			t.Errorf("waited %s, want %s", a.waited, waited)
		}
		a.leaves()
		b.leaves()
	})
}

func TestAClientWhosePatienceEndsInTheBackOffLearnsSSHsLastLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: never, lasts: 2 * time.Second, why: errRefused})
		dialing := w.comes(2500 * time.Millisecond)
		time.Sleep(2200 * time.Millisecond)
		newcomer := w.comes(300 * time.Millisecond)
		// The pause is 1 to 1.2 s. What is left of it when they give up, both at
		// 2.5 s, is told in full seconds, never too few.
		for _, k := range []*client{dialing, newcomer} {
			<-k.done
			if k.err == nil || !regexp.MustCompile(`^no tunnel to far: `+regexp.QuoteMeta(errRefused.Error())+`; next try in 1 s$`).MatchString(k.err.Error()) {
				t.Errorf("got %q", k.err)
			}
			if !errors.Is(k.err, errRefused) {
				t.Errorf("%q does not wrap ssh's error", k.err)
			}
		}
		dialing.waitedFor(2500 * time.Millisecond)
		newcomer.waitedFor(300 * time.Millisecond)
		time.Sleep(time.Hour)
		w.launched(1) // for nobody is left
	})
}

func TestAClientWhosePatienceEndsBeforeSSHAnswersLearnsWhatItHasSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour}, life{ready: never})
		k := w.comes(5 * time.Second)
		synctest.Wait()
		w.launched(1).l.remember(Meaning{Why: "debugging is hard"})
		k.refused("no tunnel to far: ssh is still trying after 5 s (debugging is hard); with a longer --wait you may get through")
		// Who comes after that line is not told it.
		w.comes(5 * time.Second).refused("no tunnel to far: ssh is still trying after 10 s; with a longer --wait you may get through")
	})
}

func TestEveryPauseIsAtLeastAsLongAsTheTableSays(t *testing.T) {
	t.Run("in which clients wait", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.plan = failing(time.Minute, errRefused)
			k := w.comes(10 * time.Minute) // which relaunches again and again
			<-k.done
			lives := w.launches()
			for i, seconds := range []int{1, 3, 6, 10, 10, 10} {
				pause := lives[i+1].began.Sub(lives[i].ended)
				within(t, fmt.Sprint("pause ", i), pause, time.Duration(seconds)*time.Second)
			}
			synctest.Wait()
		})
	})
	for kind, want := range map[string][]time.Duration{
		Unclear:  {3 * time.Second, 10 * time.Minute, 10 * time.Minute},
		Unseen:   {time.Second, 3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second},
		Early:    {time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, time.Minute},
		Hidden:   {3 * time.Second, 2 * time.Minute, 4 * time.Minute, 4 * time.Minute},
		Definite: {time.Minute, 15 * time.Minute, 30 * time.Minute, 30 * time.Minute},
	} {
		t.Run("after what is "+kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var b backOff
				for i, pause := range want {
					within(t, fmt.Sprint("pause ", i), b.failed(failure{why: errEnded, kind: kind}, time.Time{}), pause)
					time.Sleep(time.Until(b.until))
					b.end()
				}
				time.Sleep(forgotten) // it is another day
				// It ends at once, and yet the next is 3 s later.
				within(t, "pause of another day", b.failed(failure{why: errEnded, kind: kind}, time.Now().Add(3*time.Second)), max(want[0], 3*time.Second))
			})
		})
	}
}

// What no table says has to hold for any mixture of what a host may count.
func TestInTenMinutesAHostCountsNoMoreThanAFewFailures(t *testing.T) {
	for kind, most := range map[string]int{Unclear: 2, Definite: 2, Hidden: 4} {
		bubble(t, func(t *testing.T) {
			var b backOff
			var ends []time.Time
			for range 20 {
				ends = append(ends, time.Now())
				b.failed(failure{why: errEnded, kind: kind}, time.Now())
				time.Sleep(time.Until(b.until))
				b.end()
			}
			for i := range ends[:len(ends)-most] {
				if d := ends[i+most].Sub(ends[i]); d < 10*time.Minute {
					t.Errorf("%q: %d failures in %s", kind, most+1, d)
				}
			}
		})
	}
}

func TestClientsWaitThroughAPauseOfAMinuteAndAreToldOfALongerOneAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: never, lasts: 5 * time.Second, why: failure{why: errEnded}}, life{ready: never, lasts: 5 * time.Second, why: failure{why: errEnded}})
		k := w.comes(time.Minute)
		if <-k.done; k.waited < 13*time.Second || k.waited > 14*time.Second {
			t.Errorf("told after %s; two launches of 5 s and a pause of 3 s take 13 to 13.6 s", k.waited)
		}
		pauseEnds := time.Now().Add(10 * time.Minute)
		w.comes(time.Hour).waitedFor(0)
		time.Sleep(time.Until(pauseEnds) - held + 1) // the pause may be longer, by two minutes
		late := w.comes(never)
		if <-late.done; late.err == nil {
			if late.waited > held {
				t.Errorf("waited %s", late.waited)
			}
			late.leaves()
		} else if late.waited != 0 {
			t.Errorf("told after %s", late.waited)
		}
	})
}

func TestPausesAreLengthenedAtRandom(t *testing.T) {
	seen := make(map[time.Duration]bool)
	var least, most time.Duration = never, 0
	for range 200 {
		var b backOff
		d := b.failed(errRefused, time.Now())
		within(t, "pause", d, time.Second)
		seen[d], least, most = true, min(least, d), max(most, d)
	}
	// 200 draws miss a tenth of the range once in 10^9 runs.
	if len(seen) < 190 || least > 1020*time.Millisecond || most < 1180*time.Millisecond {
		t.Errorf("%d lengths from %s to %s", len(seen), least, most)
	}
}

func TestWhoIsRejectedIsToldAtOnceWhyAndHowLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.plan = failing(2*time.Second, rejected)
		refused := func(k *client, after time.Duration, low, high int) {
			t.Helper()
			k.waitedFor(after)
			text, left, _ := strings.Cut(k.err.Error(), "; next try in ")
			n, err := strconv.Atoi(strings.TrimSuffix(left, " s"))
			if text != "no tunnel to far: "+rejected.Error() || err != nil || n < low || n > high {
				t.Errorf("got %q, want %d to %d s", k.err, low, high)
			}
		}
		a, b := w.comes(25*time.Second), w.comes(25*time.Second)
		refused(a, 2*time.Second, 60, 72) // that dial while ssh is rejected
		refused(b, 2*time.Second, 60, 72)
		time.Sleep(30 * time.Second)
		refused(w.comes(25*time.Second), 0, 30, 42) // that come in the pause
		time.Sleep(30*time.Second - 1)
		refused(w.comes(25*time.Second), 0, 1, 13)
		w.launched(1)
	})
}

func TestForgetLetsTheNextClientLaunchAndStartsThePausesAnew(t *testing.T) {
	t.Run("after failures", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.plan = failing(time.Minute, errRefused)
			k := w.comes(never)
			time.Sleep(3*time.Minute + 7*time.Second) // in the third pause, of 6 s
			if lives := w.launches(); len(lives) != 3 || lives[2].ended.IsZero() {
				t.Fatalf("%d launches", len(lives))
			}
			w.Forget()
			now := time.Now()
			if s := w.launched(4); s.began != now {
				t.Errorf("relaunched %s after Forget", s.began.Sub(now))
			}
			time.Sleep(2*time.Minute + 2*time.Second)
			within(t, "pause after Forget", w.launched(5).began.Sub(w.launches()[3].ended), time.Second)
			k.giveUp(nil)
		})
	})
	t.Run("after rejections", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.plan = failing(1, rejected)
			<-w.comes(never).done
			time.Sleep(72*time.Second + 1)
			<-w.comes(never).done // now it is 15 min
			w.launched(2)
			w.Forget()
			w.launched(2) // for there is no client
			<-w.comes(never).done
			w.launched(3)
			time.Sleep(72*time.Second + 1)
			<-w.comes(never).done
			w.launched(4)
		})
	})
}

func TestAnAnswerStartsThePausesAnew(t *testing.T) {
	for name, why := range map[string]error{"failures": errRefused, "rejections": rejected} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				fails := life{ready: never, lasts: time.Minute, why: why}
				w := newWorld(t, Config{}, fails, fails, life{lasts: time.Minute, why: why})
				w.plan = func(plan func(int) life) func(int) life {
					return func(n int) life {
						if n > 2 {
							return fails
						}
						return plan(n)
					}
				}(w.plan)
				for len(w.launches()) < 3 {
					k := w.comes(24 * time.Hour)
					if <-k.done; k.err == nil {
						defer k.leaves()
					} else {
						time.Sleep(20 * time.Minute)
					}
					synctest.Wait()
				}
				third := w.launched(3)
				time.Sleep(time.Minute)
				synctest.Wait()
				pause := time.Second
				if why == error(rejected) {
					pause = time.Minute
				}
				time.Sleep(pause + pause/5 + 1 - time.Since(third.ended))
				k := w.comes(time.Second)
				if s := w.launched(4); s.began != k.began {
					t.Errorf("not launched after the first pause of the table")
				}
				<-k.done
			})
		})
	}
}

// A host may let everybody in and hang up at once: a directory that chroot(2) is
// not to have, a limit of sessions. ufw acts upon six connections in 30 s.
func TestAnAnswerThatDoesNotLastStartsNoPausesAnew(t *testing.T) {
	for lasts, pauses := range map[time.Duration][]int{
		time.Second:        {2, 3, 6, 10, 10}, // the first until two are 3 s apart
		30*time.Second - 1: {1, 3, 6, 10, 10},
		30 * time.Second:   {1, 1, 1, 1, 1},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.plan = func(int) life { return life{lasts: lasts, why: errRefused} }
			for range 6 {
				k := w.comes(time.Minute).connected()
				time.Sleep(lasts + 1)
				k.leaves()
			}
			lives := w.launches()
			for i, seconds := range pauses {
				within(t, fmt.Sprint("pause ", i, " after ", lasts), lives[i+1].began.Sub(lives[i].ended), time.Duration(seconds)*time.Second)
			}
		})
	}
}

func TestAPauseIsToldInRoundFiguresThatAreNeverTooShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                "0 s",
		0:                           "0 s",
		1:                           "1 s",
		time.Second:                 "1 s",
		time.Second + 1:             "2 s",
		119 * time.Second:           "119 s",
		119*time.Second + 1:         "2 min",
		2 * time.Minute:             "2 min",
		2*time.Minute + time.Second: "3 min",
		30 * time.Minute:            "30 min",
	} {
		if got := inSeconds(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestAnErrorThatNobodyKnowsIsNotTakenForHarmless(t *testing.T) {
	why := errors.New("the moon")
	if f := failureOf(why); f.kind != Unclear || f.hopeless || !errors.Is(f, why) || f.Error() != "the moon" {
		t.Errorf("%+v", f)
	}
}
