package tunnel

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// hostThat is a plan of launches that fail, each in one of some ways, or, every
// other one, log in and are cut after a while.
func hostThat(chance *rand.Rand, kinds []string, succeeds bool) func(int) life {
	lives := make([]life, 1000)
	for i := range lives {
		lasts := []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second, 30 * time.Second}[chance.IntN(4)]
		lives[i] = life{ready: never, lasts: lasts, why: failure{why: errors.New("no"), kind: kinds[chance.IntN(len(kinds))]}}
		if succeeds && chance.IntN(2) == 0 {
			lives[i] = life{ready: lasts, letIn: lasts, lasts: 2 * lasts, why: errRefused}
		}
	}
	return func(n int) life { return lives[n] }
}

// TestNoMixtureOfFailingLoginsIsWhatABanIsMadeOf plays two hours of any clients
// with the real supervisor, and counts in each ten minutes the launches that a host
// may take for failed logins.
func TestNoMixtureOfFailingLoginsIsWhatABanIsMadeOf(t *testing.T) {
	for name, of := range map[string]struct {
		kinds    []string
		succeeds bool
		most     int
	}{
		"unclear":                 {[]string{Unclear}, false, 2},
		"definite":                {[]string{Definite}, false, 2},
		"both":                    {[]string{Unclear, Definite}, false, 2},
		"behind a helper":         {[]string{Hidden}, false, 4},
		"all":                     {[]string{Unclear, Definite, Hidden}, false, 4},
		"now and then":            {[]string{Unclear, Definite, Hidden}, true, 4},
		"now and then, or unseen": {[]string{Unclear, Definite, Hidden, Unseen, Early}, true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				bubble(t, func(t *testing.T) {
					chance := rand.New(rand.NewPCG(seed, 1))
					w := newWorld(t, Config{Idle: time.Duration(chance.IntN(2)) * time.Second})
					w.plan = hostThat(chance, of.kinds, of.succeeds)
					knockFor(w, chance, 2*time.Hour)
					w.countedIn(10*time.Minute, of.most)
				})
			}
		})
	}
}

func TestOfWhatAHostMayCountTheFifthIsTenMinutesAfterTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		var b backOff
		next := func() time.Duration { return b.count(time.Now().Add(time.Second)).Sub(began) }
		for _, want := range []time.Duration{ // one a minute
			time.Second, time.Minute + time.Second, 2*time.Minute + time.Second,
			10 * time.Minute, 11 * time.Minute, 12 * time.Minute,
		} {
			if got := next(); got != want {
				t.Errorf("after %s: the next is at %s, want %s", time.Since(began), got, want)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Hour)
		if got, want := next(), time.Since(began)+time.Second; got != want {
			t.Errorf("long after: the next is at %s, want %s", got, want)
		}
		for range 3 {
			next()
		}
		b.forget()
		if got, want := next(), time.Since(began)+time.Second; got != want {
			t.Errorf("after what was counted is forgotten: the next is at %s, want %s", got, want)
		}
	})
}

// knockFor has clients come, some of which leave at once, or have no patience.
func knockFor(w *world, chance *rand.Rand, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(chance.Int64N(int64(8 * time.Second)))) {
		patience := []time.Duration{time.Millisecond, time.Second, 25 * time.Second, 10 * time.Minute}[chance.IntN(4)]
		stays := []time.Duration{0, time.Second, time.Minute}[chance.IntN(3)]
		go func(k *client) { // ends when its patience does, or it has stayed
			if <-k.done; k.err == nil {
				time.Sleep(stays)
				k.leaves()
			}
		}(w.comes(patience))
	}
	time.Sleep(12 * time.Minute)
	synctest.Wait()
}

// countedIn fails if a host may have counted more failures than most in some d,
// or none at all.
func (w *world) countedIn(d time.Duration, most int) {
	w.t.Helper()
	var all []time.Time
	for _, s := range w.launches() {
		if f := (failure{}); s.ready == never && errors.As(s.why, &f) && f.kind != Unseen && f.kind != Early {
			all = append(all, s.ended)
		}
	}
	if len(all) <= most {
		w.t.Fatalf("only %d logins have failed", len(all))
	}
	for i := range all[:len(all)-most] {
		if in := all[i+most].Sub(all[i]); in < d {
			w.t.Fatalf("%d failures in %s", most+1, in)
		}
	}
}
