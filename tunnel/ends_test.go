package tunnel

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestATunnelThatEndsUnderItsClientsIsNotRelaunchedForThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{lasts: time.Hour, why: errRefused})
		a, b := w.comes(never).connected(), w.comes(never).connected()
		time.Sleep(time.Hour)
		a.leaves() // in the pause: there is no countdown to start
		time.Sleep(24 * time.Hour)
		b.leaves() // long after it
		time.Sleep(24 * time.Hour)
		w.launched(1)
		// And their leaving is not taken for that of a client of the next one.
		c := w.comes(never).connected()
		time.Sleep(time.Hour)
		w.launched(2)
		w.isUp()
		c.leaves()
	})
}

func TestALateLeaverOfAnEarlierTunnelDoesNotEndTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{lasts: time.Hour, why: errRefused})
		a := w.comes(never).connected()
		time.Sleep(time.Hour + 2*time.Second)
		b := w.comes(never).connected()
		a.leaves()
		time.Sleep(time.Hour)
		w.launched(2)
		w.isUp()
		b.leaves()
	})
}

func TestATunnelThatEndsInItsCountdownBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{lasts: 5 * time.Second, why: errRefused})
		w.comes(never).connected().leaves()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		k := w.comes(never).connected()
		within(t, "pause", w.launched(2).began.Sub(w.launches()[0].ended), time.Second)
		time.Sleep(time.Hour) // the old countdown must not end the new tunnel
		w.isUp()
		k.leaves()
	})
}

func TestAnEndUnderItsClientsBacksOffThoughTheTunnelMayNotStay(t *testing.T) {
	// A supervisor that is slow has the clients' leases given back, the end of
	// the countdown and ssh's end before it at the same time, and takes them in
	// any order.
	slow := func(Status) { time.Sleep(10 * time.Millisecond) }
	for range 300 {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{Changed: slow}, life{ready: never, lasts: time.Second, why: errRefused})
			time.Sleep(time.Second) // it has said that it is down
			a := w.comes(time.Minute)
			time.Sleep(995 * time.Millisecond)
			b := w.comes(time.Minute)
			a.connected()
			b.connected()
			if pause := w.launched(2).began.Sub(w.launches()[0].ended); pause < time.Second {
				t.Errorf("relaunched after %s", pause)
			}
			a.leaves()
			b.leaves()
		})
	}
}

func TestALateGreetingOfALaunchThatHasEndedEndsNoBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: never, lasts: time.Second, why: rejected})
		<-w.comes(time.Minute).waitedFor(time.Second).done
		w.greeted <- w.launched(1).l
		<-w.comes(time.Minute).waitedFor(0).done
		w.launched(1)
	})
}
