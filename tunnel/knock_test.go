package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

var errStranger = errors.New("it belongs to uid 1001")

func TestAnUntrustedNearEndIsNeverUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		log := new(strings.Builder)
		var refused []net.Conn
		w := newWorld(t, Config{Idle: time.Hour, Log: zerolog.New(log), Prove: leads(func(_ context.Context, c net.Conn) error {
			if time.Since(began) < 3*time.Second {
				refused = append(refused, c)
				return errStranger
			}
			return nil
		})})
		var asked time.Duration
		answered := func(_ context.Context, c net.Conn) error {
			asked = time.Since(began)
			return nil
		}
		short := w.comes(2*time.Second, answered)
		k := w.comes(never, answered).connected()
		short.refused("no tunnel to far: it belongs to uid 1001").waitedFor(2 * time.Second)
		// Each of them tries once a second, one after the other.
		if k.waited < 3*time.Second || k.waited > 3*time.Second+5*dialTakes || asked != k.waited {
			t.Errorf("asked for an answer after %s, connected after %s", asked, k.waited)
		}
		if len(refused) != 5 {
			t.Errorf("tried %d times, want 3 times in 3 s and 2 times in 2 s", len(refused))
		}
		for _, c := range refused {
			if !c.(*fakeConn).closed {
				t.Fatal("an untrusted connection is still open")
			}
		}
		if slices.Contains(refused, net.Conn(k.conn.stream)) {
			t.Error("an untrusted connection was handed out")
		}
		k.leaves()
		synctest.Wait()
		if n := strings.Count(log.String(), errStranger.Error()); n > 2 {
			t.Errorf("two clients logged the same stranger %d times", n)
		} else if n == 0 || !strings.Contains(log.String(), "127.0.0.1:1025") {
			t.Errorf("not logged: %s", log)
		}
	})
}

func TestAnUntrustedNearEndIsNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Prove: leads(func(context.Context, net.Conn) error { return errStranger })})
		var clients []*client
		for range 10 {
			clients = append(clients, w.comes(time.Second))
		}
		for _, k := range clients {
			<-k.done
		}
		if n := w.mostDialing(); n != 1 {
			t.Errorf("%d clients tried at a time, though no trusted near end had answered", n)
		}
	})
}

func TestWithALaunchThatHasNotAnsweredOneClientTriesAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: 10 * time.Second})
		var clients []*client
		for range 200 {
			clients = append(clients, w.comes(never))
		}
		time.Sleep(9 * time.Second)
		if n := w.mostDialing(); n != 1 {
			t.Errorf("%d tried at a time", n)
		}
		for _, k := range clients {
			defer k.connected().leaves()
		}
	})
}

func TestWhoWaitsForAnothersTryLearnsOfTheEndAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{lasts: 2 * time.Second, why: rejected})
		w.dial = func(ctx context.Context, _, _ string) (stream, error) {
			time.Sleep(10 * time.Second)
			return nil, syscall.ETIMEDOUT
		}
		tries := w.comes(time.Minute)
		synctest.Wait()
		<-w.comes(time.Minute).waitedFor(2 * time.Second).done
		<-tries.waitedFor(10 * time.Second).done
	})
}

func TestAtMost64ClientsAreDialingOrWaitingForAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: time.Second})
		var mu sync.Mutex
		knocking, most := 0, 0
		add := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			knocking += n
			most = max(most, knocking)
		}
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			add(1)
			c, err := dial(ctx, network, address)
			if err != nil {
				add(-1)
			}
			return c, err
		}
		answered := func(context.Context, net.Conn) error {
			time.Sleep(5 * time.Second)
			add(-1)
			return nil
		}
		var clients []*client
		for range 500 {
			clients = append(clients, w.comes(never, answered))
		}
		for _, k := range clients {
			defer k.connected().leaves()
		}
		if most != 64 {
			t.Errorf("%d were knocking at a time, want 64", most)
		}
	})
}

func TestWhoWaitsBehindTooManyOthersIsToldSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		silent := func(ctx context.Context, _ net.Conn) error { <-ctx.Done(); return ctx.Err() }
		w.comes(never).connected().leaves()
		var clients []*client
		for range maxKnocking {
			clients = append(clients, w.comes(time.Hour, silent))
		}
		time.Sleep(time.Minute)
		w.comes(time.Second).refused("the tunnel to far is up, but: too many clients are waiting for its answer")
		for _, k := range clients {
			<-k.done
		}
	})
}

func TestASlowFarEndKeepsNobodyElseWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		slow := w.comes(never, func(context.Context, net.Conn) error { time.Sleep(time.Minute); return nil })
		synctest.Wait()
		w.comes(never).connected().waitedFor(2 * dialTakes).leaves()
		slow.connected().waitedFor(time.Minute + dialTakes).leaves()
	})
}

func TestAClientThatIsNotAnsweredTriesAgainEachSecond(t *testing.T) {
	refusal := errors.New("the far end has closed the connection")
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour})
		began := time.Now()
		var tries []time.Duration
		var conns []net.Conn
		k := w.comes(never, func(_ context.Context, c net.Conn) error {
			tries, conns = append(tries, time.Since(began)), append(conns, c)
			if len(tries) < 5 {
				return refusal
			}
			return nil
		}).connected()
		for i, at := range tries {
			if want := dialTakes + time.Duration(i)*(time.Second+dialTakes); at != want {
				t.Errorf("try %d after %s, want %s", i, at, want)
			}
			if open := i == len(tries)-1; conns[i].(*fakeConn).closed == open {
				t.Errorf("the connection of try %d is open: %t, want %t", i, !open, open)
			}
		}
		k.leaves()
		w.comes(10*time.Second, func(context.Context, net.Conn) error { return refusal }).
			refused("the tunnel to far is up, but: " + refusal.Error()).waitedFor(10 * time.Second)
		w.launched(1)
	})
}

func TestWhatSSHSaysMeanwhileIsTold(t *testing.T) {
	const line = "channel 2: open failed: connect failed: Connection refused"
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour})
		w.comes(never).connected().leaves()
		l := w.launched(1).l
		answered := func(context.Context, net.Conn) error {
			l.remember(Meaning{Why: line})
			return errors.New("closed without a byte")
		}
		w.comes(time.Second, answered).refused("the tunnel to far is up, but: closed without a byte (" + line + ")")
	})
}

func TestAClientWhoseAnswererIsCutOffByALaunchsEndTriesTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{lasts: 3 * time.Second, why: errRefused})
		k := w.comes(never, func(context.Context, net.Conn) error {
			if time.Sleep(5 * time.Second); len(w.launches()) == 1 {
				return errors.New("closed")
			}
			return nil
		}).connected()
		w.launched(2)
		k.leaves()
	})
}

func TestAnErrorOfOurOwnInDialingIsTold(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.EMFILE, "no tunnel to far: too many open files"},
		// These only mean that ssh is not ready.
		{syscall.ECONNREFUSED, "no tunnel to far: ssh is still trying after 1 s; with a longer --wait you may get through"},
		{syscall.ENOENT, "no tunnel to far: ssh is still trying after 1 s; with a longer --wait you may get through"},
		{syscall.EAGAIN, "no tunnel to far: ssh is still trying after 1 s; with a longer --wait you may get through"},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.dial = func(context.Context, string, string) (stream, error) {
				return nil, &net.OpError{Op: "dial", Err: test.err}
			}
			k := w.comes(time.Second)
			if <-k.done; !strings.HasPrefix(k.err.Error(), strings.Split(test.want, ": ")[0]) || !strings.HasSuffix(k.err.Error(), strings.Split(test.want, ": ")[1]) {
				t.Errorf("%v: got %q, want %q", test.err, k.err, test.want)
			}
		})
	}
}

func TestWhereSSHDoesNotListenThoughItIsLetInNoLongerWaitHelps(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		time.Second + nearEndTimeout: "no tunnel to far: ssh is still trying after 1 s; with a longer --wait you may get through",
		2 * time.Second:              "no tunnel to far: the host has let ssh in, but ssh does not listen at the near end",
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, Config{}, life{ready: never, letIn: time.Second})
			w.comes(wait).refused(want)
		})
	}
}

func TestABarePortIsTriedAtBothLoopbackAddresses(t *testing.T) {
	for _, test := range []struct {
		network, address string
		want             []string
	}{
		{"tcp", "localhost:1025", []string{"127.0.0.1:1025", "[::1]:1025"}},
		{"tcp", "127.0.0.1:1025", []string{"127.0.0.1:1025"}},
		{"tcp", "192.0.2.1:1025", []string{"192.0.2.1:1025"}},
		{"unix", "/run/localhost:1025", []string{"/run/localhost:1025"}},
		{"unix", "localhost:1025", []string{"localhost:1025"}},
		{"tcp", "localhost", []string{"localhost"}},
	} {
		if got := nearAddresses(test.network, test.address); !slices.Equal(got, test.want) {
			t.Errorf("%s %s: %q, want %q", test.network, test.address, got, test.want)
		}
	}
	for name, other := range map[string]func(w *world){
		"refuses": func(w *world) {
			dial := w.dial
			w.dial = func(ctx context.Context, network, address string) (stream, error) {
				if strings.HasPrefix(address, "127.") {
					return nil, syscall.ECONNREFUSED
				}
				return dial(ctx, network, address)
			}
		},
		"is a stranger's": func(w *world) {
			first := true
			w.cfg.Prove = leads(func(context.Context, net.Conn) error {
				if first {
					first = false
					return errStranger
				}
				return nil
			})
		},
	} {
		t.Run("the first "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				other(w)
				k := w.comesTo("tcp", "localhost:1025", never, nil).connected()
				if k.waited > 2*dialTakes {
					t.Errorf("the second address was tried only after %s", k.waited)
				}
				k.leaves()
			})
		})
	}
}

func TestAConnectionKnowsWhetherItsTunnelIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{lasts: time.Minute, why: errRefused}, life{lasts: time.Minute})
		for _, why := range []error{errRefused, errEnded} {
			k := w.comes(never).connected()
			began := time.Now()
			c := k.conn
			if err := c.Lost(time.Second); err != nil || time.Since(began) != time.Second {
				t.Errorf("lost after %s: %v", time.Since(began), err)
			}
			if err := c.Lost(never); err != why || time.Since(began) != time.Minute-dialTakes {
				t.Errorf("lost after %s: %v, want %v after a minute", time.Since(began), err, why)
			}
			k.leaves()
			time.Sleep(2 * time.Second)
		}
	})
}

func TestErrorsNameTheTunnelAndWrapTheirCause(t *testing.T) {
	err := noTunnel("me@far", errRefused, "; next try in 1 s")
	if want := fmt.Sprintf("no tunnel to me@far: %s; next try in 1 s", errRefused); err.Error() != want || !errors.Is(err, errRefused) {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestAReasonFromBeforeTheLaunchIsToldOnlyIfItStillHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{ready: never, lasts: 2 * time.Second, why: errRefused}, life{ready: never})
		dialing := w.comes(20 * time.Second)
		time.Sleep(2*time.Second + 1)
		newcomer := w.comes(10 * time.Second)
		// No "next try in", for that was made, and nothing is heard of it yet.
		newcomer.refused("no tunnel to far: " + errRefused.Error())
		dialing.refused("no tunnel to far: " + errRefused.Error())
		w.launched(2)
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{stopTakes: 3 * time.Second}, life{ready: never})
		w.comes(never).connected().leaves()
		time.Sleep(4 * time.Second) // it has been told to go a second ago
		w.comes(20 * time.Second).refused("no tunnel to far: ssh is still trying after 18 s; with a longer --wait you may get through")
	})
}

// A supervisor that is busy takes who comes and what was asked of it meanwhile in any
// order.
func TestTheReasonOfAnEndIsKnownAlsoIfTheBackOffIsForgottenAtOnce(t *testing.T) {
	for range 50 {
		bubble(t, func(t *testing.T) {
			slow := func(Status) { time.Sleep(10 * time.Millisecond) }
			w := newWorld(t, Config{Changed: slow}, life{ready: never, lasts: 2 * time.Second, why: errRefused}, life{ready: never})
			k := w.comes(20 * time.Second)
			time.Sleep(2*time.Second + 15*time.Millisecond)
			w.Forget()
			k.refused("no tunnel to far: " + errRefused.Error())
			w.launched(2)
		})
	}
}

func TestWhosePatienceEndsWhileTheSupervisorIsBusyGetsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Changed: func(Status) { time.Sleep(10 * time.Second) }})
		first := w.comes(never)
		time.Sleep(time.Second)
		w.comes(time.Second).waitedFor(time.Second).refused("no tunnel to far: " + context.DeadlineExceeded.Error())
		first.connected().leaves()
	})
}

func TestAConnectionToTheNextTunnelIsNotALeaseOnTheLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{lasts: time.Second, why: errRefused})
		var dials atomic.Int32
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if dials.Add(1) == 1 {
				time.Sleep(4 * time.Second)
			}
			return dial(ctx, network, address)
		}
		k := w.comes(never) // begins to dial the first, and comes out at the second
		time.Sleep(3 * time.Second)
		other := w.comes(never).connected()
		k.connected()
		w.launched(2)
		other.leaves()
		time.Sleep(time.Hour)
		w.isUp() // under k
		k.leaves()
	})
}

// The first client of a near end learns where it is, and is checked before it
// waits; the others are checked when they have been answered.
func TestANearEndThatIsKnownIsCheckedWhenItHasAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []string
		trusted := true
		w := newWorld(t, Config{Idle: time.Hour, Prove: leads(func(context.Context, net.Conn) error {
			seen = append(seen, "checked")
			if !trusted {
				return errStranger
			}
			return nil
		})})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if strings.HasPrefix(address, "127.") {
				return nil, syscall.ECONNREFUSED
			}
			seen = append(seen, "dialed "+address)
			return dial(ctx, network, address)
		}
		answered := func(context.Context, net.Conn) error { seen = append(seen, "answered"); return nil }
		comes := func(patience time.Duration) *client {
			seen = nil
			return w.comesTo("tcp", "localhost:1025", patience, answered)
		}
		is := func(want ...string) {
			t.Helper()
			if !slices.Equal(seen, want) {
				t.Errorf("%q, want %q", seen, want)
			}
		}
		first := comes(never).connected()
		is("dialed [::1]:1025", "checked", "answered")
		second := comes(never).connected()
		is("dialed [::1]:1025", "answered", "checked")

		trusted = false
		comes(time.Second / 2).refused("the tunnel to far is up, but: " + errStranger.Error())
		is("dialed [::1]:1025", "answered", "checked")
		trusted = true
		third := comes(never).connected()
		is("dialed [::1]:1025", "checked", "answered") // it is not known any more
		for _, k := range []*client{first, second, third} {
			k.leaves()
		}
	})
}

// ssh drops a connection whose far port is closed. The other address would be
// its own as well, and the far port tried twice as often.
func TestADroppedConnectionIsNotTriedAtTheOtherAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var dialed []string
		log := new(strings.Builder)
		w := newWorld(t, Config{Log: zerolog.New(log), Prove: leads(func(context.Context, net.Conn) error { return ErrDropped })})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			dialed = append(dialed, address)
			return dial(ctx, network, address)
		}
		w.comesTo("tcp", "localhost:1025", 2*time.Second+time.Second/2, nil).refused("no tunnel to far: " + ErrDropped.Error())
		synctest.Wait()
		if want := []string{"127.0.0.1:1025", "127.0.0.1:1025", "127.0.0.1:1025"}; !slices.Equal(dialed, want) {
			t.Errorf("dialed %q, want once a second %q", dialed, want[0])
		}
		if strings.Contains(log.String(), "was not used") {
			t.Errorf("ssh was taken for a stranger: %s", log)
		}
	})
}
