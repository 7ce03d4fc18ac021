package tunnel

import (
	"testing"
	"time"
)

func TestTheCountdownStartsWhenTheLastClientLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second})
		a, b := w.comes(never).connected(), w.comes(never).connected()
		time.Sleep(5 * time.Second)
		a.leaves()
		time.Sleep(time.Minute)
		w.isUp()
		b.leaves()
		last := time.Now()
		time.Sleep(never)
		w.launched(1).toldAfter(t, last, 10*time.Second)
	})
}

func TestATunnelWithoutIdleIsClosedAtOnceButNotBeforeItIsThreeSecondsOld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		came := time.Now()
		k := w.comes(never).connected()
		k.leaves()
		time.Sleep(time.Second)
		w.comes(never).connected().waitedFor(dialTakes).leaves()
		time.Sleep(time.Minute)
		w.launched(1).toldAfter(t, came, 3*time.Second)
		k = w.comes(never).connected()
		time.Sleep(time.Minute)
		k.leaves()
		last := time.Now()
		time.Sleep(time.Nanosecond) // zero may be as long as that
		w.launched(2).toldAfter(t, last, 0)
	})
}

func TestManyShortClientsAreNotManyLaunches(t *testing.T) {
	for name, s := range map[string]life{"logins that work": {ready: 500 * time.Millisecond, letIn: 400 * time.Millisecond}, "logins that fail": {ready: never, lasts: 100 * time.Millisecond, why: errRefused}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				w.plan = func(int) life { return s }
				for range 121 {
					k := w.comes(60 * time.Millisecond)
					if <-k.done; k.err == nil {
						k.leaves()
					}
					time.Sleep(65 * time.Millisecond)
				}
				lives := w.launches()
				if len(lives) < 2 || len(lives) > 6 {
					t.Errorf("%d launches in 15 s", len(lives))
				}
				for i := range lives[1:] {
					if d := lives[i+1].began.Sub(lives[i].began); d < betweenLaunches {
						t.Errorf("launch %d came %s after the one before", i+1, d)
					}
					if s.ready < never && lives[i].told.Sub(lives[i].began) < s.letIn {
						t.Errorf("launch %d was told to go in the middle of its login", i)
					}
				}
			})
		})
	}
}

func TestTheCountdownIsDrawnAfreshEachTime(t *testing.T) {
	const idle, jitter = 10 * time.Second, 25 * time.Second
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: idle, Jitter: jitter})
		seen := make(map[time.Duration]bool)
		for n := range 50 {
			w.comes(never).connected().leaves()
			last := time.Now()
			// A client that calls a countdown off makes the next one another.
			if n%2 == 1 {
				time.Sleep(idle / 2)
				w.comes(never).connected().leaves()
				last = time.Now()
			}
			time.Sleep(idle + jitter + 1)
			d := w.launched(n + 1).told.Sub(last)
			if d < idle || d > idle+jitter {
				t.Errorf("told to go after %s, want %s to %s", d, idle, idle+jitter)
			}
			seen[d] = true
		}
		// One in 10^8 runs draws a nanosecond twice.
		if len(seen) != 50 {
			t.Errorf("50 countdowns had %d lengths", len(seen))
		}
	})
}

func TestTheRandomAdditionReachesBothItsBounds(t *testing.T) {
	seen := make(map[time.Duration]int)
	for range 1000 {
		seen[upTo(2)]++
	}
	if len(seen) != 3 || seen[0] == 0 || seen[2] == 0 {
		t.Errorf("drew %v from 0 to 2", seen)
	}
	if d := upTo(0); d != 0 {
		t.Errorf("drew %s from 0 to 0", d)
	}
	if d := upTo(-1); d != 0 {
		t.Errorf("drew %s from 0 to -1", d)
	}
}

func TestAClientDuringTheCountdownCallsItOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second})
		w.comes(never).connected().leaves()
		time.Sleep(10*time.Second - dialTakes)
		k := w.comes(never).connected().waitedFor(dialTakes)
		time.Sleep(time.Hour)
		w.isUp()
		k.leaves()
		last := time.Now()
		time.Sleep(time.Minute)
		w.launched(1).toldAfter(t, last, 10*time.Second)
	})
}

func TestATunnelWithAClientIsNeverClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Second})
		stays := w.comes(never).connected()
		for range 100 { // others come and go, at all distances
			w.comes(never).connected().leaves()
			time.Sleep(317 * time.Millisecond)
		}
		time.Sleep(24 * time.Hour)
		w.isUp()
		w.launched(1)
		stays.leaves()
	})
}

func TestTheCountdownBeginsWhenTheHostLetsSSHInIfNobodyWaitsAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{letIn: 31 * time.Second, ready: 31 * time.Second}, life{letIn: 31 * time.Second, ready: 31 * time.Second})
		began := time.Now()
		<-w.comes(5 * time.Second).done
		time.Sleep(time.Hour)
		w.launched(1).toldAfter(t, began, 41*time.Second)
		// A client in it calls it off.
		began = time.Now()
		<-w.comes(5 * time.Second).done
		time.Sleep(time.Until(began.Add(40 * time.Second)))
		k := w.comes(time.Second).connected().waitedFor(dialTakes)
		time.Sleep(time.Hour)
		w.isUp()
		k.leaves()
	})
}
