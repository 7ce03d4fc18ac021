package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// owned is a client of a user's.
type owned struct {
	net.Conn
	uid int
}

func ownerOf(c net.Conn) (int, bool) { return c.(owned).uid, true }

// enters lets n clients of a user's in, or nobody, for as long as they would
// wait; it returns those that are in.
func enters(t *testing.T, g *gate, uid, n int, patience time.Duration) (in []string) {
	t.Helper()
	for range n {
		ctx, end := context.WithTimeout(t.Context(), patience)
		who, err := g.enter(ctx, owned{uid: uid})
		end()
		if err == nil {
			in = append(in, who)
		}
	}
	return in
}

func TestNobodyHasAllPlacesAndWhoComesLaterGetsOneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(64, 100, ownerOf)
		mine := enters(t, g, 1, 70, time.Second)
		if len(mine) != 60 {
			t.Errorf("one user has %d of 64 places, want 60", len(mine))
		}
		began := time.Now()
		if n := len(enters(t, g, 2, 4, time.Second)); n != 4 || time.Since(began) > 0 {
			t.Errorf("another one got %d of the 4 places that are kept for others, after %s", n, time.Since(began))
		}
		for _, who := range mine {
			g.leave(who)
		}
		if n := len(enters(t, g, 3, 60, time.Second)); n != 56 { // 4 are kept again
			t.Errorf("a third one has %d of the 60 that are free again", n)
		}
	})
}

func TestWhoWaitsOutsideIsToldAfterHisPatienceAndGetsAPlaceThatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 0, nil)
		first := enters(t, g, 0, 1, time.Second)
		began := time.Now()
		ctx, end := context.WithTimeout(t.Context(), 25*time.Second)
		defer end()
		_, err := g.enter(ctx, owned{})
		if time.Since(began) != 25*time.Second || err == nil || !strings.Contains(err.Error(), "1 clients are served at a time") {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		in := make(chan string)
		go func() { who, _ := g.enter(t.Context(), owned{}); in <- who }()
		synctest.Wait()
		g.leave(first[0])
		g.leave(<-in)
		if g.taken != 0 || len(g.line) != 0 || len(g.by) != 0 {
			t.Errorf("left: %+v", g)
		}
	})
}

// TestWhoIsGivenAPlaceWhenHeGivesUpHasNone, or else he has it and knows so.
func TestWhoIsGivenAPlaceWhenHeGivesUpHasNone(t *testing.T) {
	g := newGate(1, 0, nil)
	ctx, stop := context.WithCancelCause(t.Context())
	stop(ErrStopping)
	for range 50 { // it is a race
		who, err := g.enter(ctx, owned{})
		if err == nil && who == "anybody" {
			g.leave(who)
		} else if !errors.Is(err, ErrStopping) || who != "" {
			t.Fatalf("%q, %v", who, err)
		}
		if g.taken != 0 || len(g.line) != 0 || len(g.by) != 0 {
			t.Fatalf("left: %+v", g)
		}
	}
	var open *gate
	if who, err := open.enter(ctx, owned{}); who != "" || !errors.Is(err, ErrStopping) {
		t.Errorf("without a gate: %q, %v", who, err)
	}
}

// TestTheHalfOfThePlacesThatAnOwnerCanHaveIsLessASixteenth, where owners are told
// from each other.
func TestTheHalfOfThePlacesThatAnOwnerCanHaveIsLessASixteenth(t *testing.T) {
	for places, want := range map[int]int{1: 1, 2: 1, 3: 2, 15: 8, 16: 7, 31: 15, 32: 14, 256: 112} {
		if got := newGate(places, 0, ownerOf).share(); got != want {
			t.Errorf("%d of %d, want %d", got, places, want)
		}
		if got := newGate(places, 0, nil).share(); got != places {
			t.Errorf("%d of %d", got, places)
		}
	}
}

func TestOneUserCannotHaveAllRoomToWaitIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, largeRoom, ownerOf)
		ctx, end := context.WithCancel(t.Context())
		defer end()
		waits := func(g *gate, uid, n int) (refused int) {
			got := make(chan error, n)
			for range n {
				go func() { _, err := g.enter(ctx, owned{uid: uid}); got <- err }()
			}
			synctest.Wait()
			for len(got) > 0 {
				if errors.Is(<-got, errCrowded) {
					refused++
				}
			}
			return refused
		}
		if n := waits(g, 1, 1000); n != 1000-2-938 {
			t.Errorf("%d of 1000 were turned away, with 2 places and room for 938 of his and 62 of others", n)
		}
		if n := waits(newGate(2, largeRoom-1, ownerOf), 1, 1000); n != 0 {
			t.Errorf("%d of 1000 were turned away where there are few descriptors", n)
		}
		if n := waits(g, 2, 2); n != 0 {
			t.Errorf("%d of another user's two were turned away", n)
		}
		end()
		synctest.Wait()
	})
}

func TestAStormIsLetInAtAPaceAndKeepsNobodyElseWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(256, 0, ownerOf)
		storm := func() int {
			who := enters(t, g, 1, 1, time.Minute)
			for _, w := range who {
				g.leave(w)
			}
			return len(who)
		}
		n := 0
		for began := time.Now(); time.Since(began) < time.Second; n++ {
			storm()
			time.Sleep(time.Millisecond / 10)
		}
		if n > paceBurst*minPace || n < paceBurst*minPace/2 {
			t.Errorf("a burst of %d", n)
		}
		n = 0
		for began := time.Now(); time.Since(began) < time.Minute; {
			n += storm()
		}
		if n < 60*minPace/2-1 || n > 61*minPace {
			t.Errorf("%d in a minute", n)
		}
		began := time.Now()
		if k := len(enters(t, g, 2, 5, time.Minute)); k != 5 || time.Since(began) > 0 {
			t.Errorf("%d of 5 of another user's, after %s", k, time.Since(began))
		}
		ctx, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		refused := 0
		for range 2000 {
			go func() {
				if _, err := g.enter(ctx, owned{uid: 1}); errors.Is(err, errOften) {
					refused++
				}
			}()
			synctest.Wait()
		}
		if refused < 900 {
			t.Errorf("%d of 2000 at once were turned away at once", refused)
		}
		end()
		synctest.Wait()
	})
}

func TestLinesAboutClientsAreLimitedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		l := log.log()
		limited := l.Sample(&lines{log: l})
		for range 10 * linesAtOnce {
			limited.Info().Msg("client")
		}
		if n := strings.Count(log.String(), `"client"`); n != linesAtOnce {
			t.Errorf("%d lines", n)
		}
		if n := strings.Count(log.String(), "\n"); n != linesAtOnce {
			t.Errorf("%d lines with others", n)
		}
		for _, want := range []string{`"lines":9000`, `"lines":1,`} {
			time.Sleep(time.Second)
			for range linesASecond + 1 {
				limited.Info().Msg("client")
			}
			if !log.has(want) {
				t.Errorf("what was left out is not counted: no %s", want)
			}
		}
	})
}

// TestNoMoreAreKeptThanThereIsRoomFor: the others are in the kernel's queue, and
// come in when there is room.
func TestNoMoreAreKeptThanThereIsRoomFor(t *testing.T) {
	noLeaks(t)
	f := patient()
	f.MaxClients, f.MaxWaiting = 1, 2
	end := answering(t, "tcp", echoes)
	r := servingSMTP(t, f, end.dial)
	var all []*net.TCPConn
	for range 6 {
		all = append(all, call(t, r.addr))
	}
	greeted := make(chan *net.TCPConn) // in whatever order they get the place
	for _, c := range all {
		go func() { // ends when c is greeted, or closed
			if _, err := io.ReadFull(c, make([]byte, len("220 far\r\n"))); err != nil {
				t.Error(err)
			}
			greeted <- c
		}()
	}
	for left := len(all) - 1; left >= 0; left-- {
		c := <-greeted
		until(t, "as many wait as can", func() bool { return f.Stats().Waiting == min(2, int64(left)) })
		c.Close()
	}
}

func TestAnOwnerWhoIsNotKnownIsTheMachine(t *testing.T) {
	g := newGate(1, 0, func(net.Conn) (int, bool) { return 0, false })
	far := answering(t, "tcp", func(Stream) {})
	c := must(far.dial(t.Context()))
	defer c.Close()
	if who := g.who(c); who != "127.0.0.1" {
		t.Error(who)
	}
	_, pipe := net.Pipe()
	if who := g.who(pipe); who != "anybody" {
		t.Error(who)
	}
}

// TestAnOwnersTurnComesAsSoonAsThePaceAllows: the first ones at once, then one
// each 1/rate, and none whose turn is behind his patience.
func TestAnOwnersTurnComesAsSoonAsThePaceAllows(t *testing.T) {
	const rate, patience = 4, time.Second
	g := newGate(1, 1, nil)
	now := time.Now()
	for i := range 2*rate + 1 {
		wait, ok := g.reserve("uid 1000", now, patience, rate)
		if want := max(0, time.Duration(i-rate+1)*time.Second/rate); wait != want && ok || ok != (want <= patience) {
			t.Errorf("client %d: %v, %v; want %v", i, wait, ok, want)
		}
	}
	if wait, ok := g.reserve("uid 1001", now, patience, rate); wait != 0 || !ok {
		t.Errorf("another owner: %v, %v", wait, ok)
	}
}

// TestOwnersAreForgottenWhenTheyAreTooMany: who comes from everywhere takes no memory.
func TestOwnersAreForgottenWhenTheyAreTooMany(t *testing.T) {
	g := newGate(1, 1, nil)
	for i := range maxPaces {
		for range 2 {
			g.reserve(strconv.Itoa(i), time.Now(), time.Second, 1)
		}
	}
	if n := len(g.paces); n != maxPaces {
		t.Errorf("%d are known of %d", n, maxPaces)
	}
	g.reserve("another", time.Now(), time.Second, 1)
	if n := len(g.paces); n != 1 {
		t.Errorf("%d are known", n)
	}
}

func TestABucketIsFilledAtItsRate(t *testing.T) {
	var b bucket
	now := time.Now()
	for _, c := range []struct {
		after       time.Duration
		taken, want float64
	}{{0, 0, 8}, {0, 5, 3}, {time.Second, 0, 5}, {time.Second / 2, 2, 4}, {time.Hour, 0, 8}, {0, 9, -1}, {time.Second, 0, 1}} {
		now = now.Add(c.after)
		b.level -= c.taken
		if b.fill(now, 2, 8); b.level != c.want {
			t.Errorf("after %s, and %v taken: %v, want %v", c.after, c.taken, b.level, c.want)
		}
	}
}

func TestWhoLeavesBeforeHisTurnDoesNotComeIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 0, nil)
		now := time.Now()
		g.pace.at = now // a burst has just been
		for g.paces["anybody"] == nil || g.paces["anybody"].level >= 1 {
			g.reserve("anybody", now, time.Hour, minPace/2)
		}
		ctx, late := context.WithTimeout(t.Context(), time.Hour)
		defer late()
		ctx, leave := context.WithCancelCause(ctx)
		leave(ErrClientLeft)
		if who, err := g.enter(ctx, owned{}); err != ErrClientLeft || time.Since(now) != 0 || g.taken != 0 {
			t.Errorf("%q, %v, after %s; %d are in", who, err, time.Since(now), g.taken)
		}
	})
}
