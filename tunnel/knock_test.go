package tunnel

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

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
		if k := w.comes(time.Minute).waitedFor(2 * time.Second); !errors.Is(k.err, rejected) {
			t.Errorf("it is told %v", k.err)
		}
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

// TestAConnectionAsksWhetherItsTunnelEnds: one that ends is waited for, though not
// for ever; of one that lives nothing is to be waited for.
func TestAConnectionAsksWhetherItsTunnelEnds(t *testing.T) {
	for name, c := range map[string]struct {
		ends, known bool
		lasts       time.Duration // from when it is asked
		want        error
		waits       time.Duration
	}{
		"it ends":                        {true, true, 3 * time.Second, errRefused, 3 * time.Second},
		"it ends, and does not":          {true, true, time.Minute, errEnds, stopTimeout},
		"it lives":                       {false, true, time.Second, nil, 0},
		"nobody knows":                   {false, false, 3 * time.Second, nil, time.Second},
		"nobody knows, and it ends soon": {false, false, time.Second / 2, errRefused, time.Second / 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var asked net.Conn
				w := newWorld(t, Config{Prove: func(int) Proof {
					return Proof{Ends: func(at net.Conn) (ends, ok bool) { asked = at; return c.ends, c.known }}
				}}, life{lasts: dialTakes + c.lasts, why: errRefused})
				k := w.comes(never).connected()
				began := time.Now()
				if err := k.conn.Lost(time.Second); err != c.want || time.Since(began) != c.waits {
					t.Errorf("lost after %s: %v, want %v after %s", time.Since(began), err, c.want, c.waits)
				}
				if asked != k.conn.NetConn() {
					t.Error("asked about another connection")
				}
				k.leaves()
			})
		})
	}
}

func TestAConnectionToTheNextTunnelIsNotALeaseOnTheLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Second}, life{lasts: time.Second, why: errRefused})
		var dials atomic.Int32
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if dials.Add(1) == 1 {
				time.Sleep(4 * time.Second)
				ctx = context.WithoutCancel(ctx) // it is too late to give it up
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

// TestWhoHasLeftGetsNoLease, though one could be had: it would be a launch.
func TestWhoHasLeftGetsNoLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tun := New(Config{})
		left, leave := context.WithCancel(t.Context())
		leave()
		go func() { // ends with the test
			for {
				select {
				case r := <-tun.leases:
					r.reply <- leaseReply{}
				case <-tun.stopped:
					return
				}
			}
		}()
		defer close(tun.stopped)
		for range 100 {
			synctest.Wait() // one could be had
			if _, err := tun.lease(left); err != context.Canceled {
				t.Fatal(err)
			}
		}
	})
}
