package tunnel

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestNobodyIsAskedOrDialedBeforeTheLaunchHasAPid: until then nobody can tell
// whose a near end is.
func TestNobodyIsAskedOrDialedBeforeTheLaunchHasAPid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var pids []int
		w := newWorld(t, Config{Prove: func(pid int) Proof {
			return Proof{Listens: func(string, string) error { pids = append(pids, pid); return nil }}
		}}, life{starts: 3 * time.Second, ready: time.Millisecond, lasts: time.Hour}, life{starts: time.Second})
		gaveUp := w.comes(2 * time.Second)
		k := w.comes(never)
		<-gaveUp.waitedFor(2 * time.Second).done
		k.connected().waitedFor(3*time.Second + dialTakes)
		time.Sleep(2 * time.Hour) // the first has ended
		synctest.Wait()
		k.leaves()
		w.comes(never).connected().waitedFor(time.Second + dialTakes).leaves()
		if !slices.Equal(pids, []int{1, 2}) {
			t.Errorf("asked about the launches %v", pids)
		}
	})
}

// TestWhoListensIsKnownBeforeAnybodyIsConnectedTo: he can neither hold a client up
// nor read how one comes.
func TestWhoListensIsKnownBeforeAnybodyIsConnectedTo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := new(strings.Builder)
		began, up := time.Now(), 300*time.Millisecond
		w := newWorld(t, Config{Log: zerolog.New(log), Prove: func(int) Proof {
			return Proof{Listens: func(_, address string) error {
				if strings.HasPrefix(address, "127.") {
					return errStranger
				}
				if time.Since(began) < up {
					return syscall.ECONNREFUSED
				}
				return nil
			}}
		}})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if address != "[::1]:1025" {
				t.Errorf("dialed %s", address)
			}
			return dial(ctx, network, address)
		}
		k := w.comesTo("tcp", "localhost:1025", never, nil).connected()
		if k.waited < up || k.waited > up+up/64+5*time.Millisecond {
			t.Errorf("the other address was used after %s, ready after %s", k.waited, up)
		}
		synctest.Wait()
		if n := strings.Count(log.String(), errStranger.Error()); n != 1 {
			t.Errorf("the stranger was logged %d times:\n%s", n, log)
		}
		k.leaves()
	})
}

func TestAStrangerIsWhatAClientIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Prove: func(int) Proof {
			return Proof{Listens: func(string, string) error { return errStranger }}
		}})
		w.comes(2 * time.Second).refused("no tunnel to far: it belongs to uid 1001")
	})
}

// TestANearEndThatHangsKeepsNobodyFromTheNext, nor from the next try.
func TestANearEndThatHangsKeepsNobodyFromTheNext(t *testing.T) {
	hangs := func(ctx context.Context) (stream, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if strings.HasPrefix(address, "127.") {
				return hangs(ctx)
			}
			return dial(ctx, network, address)
		}
		w.comesTo("tcp", "localhost:1025", never, nil).connected().waitedFor(nearTimeout + dialTakes).leaves()
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		dials := 0
		w.dial = func(ctx context.Context, _, _ string) (stream, error) { dials++; return hangs(ctx) }
		w.comesTo("tcp", "127.0.0.1:1025", time.Second, nil).refused("no tunnel to far: 127.0.0.1:1025 takes no connection: too many wait there")
		if dials < 7 {
			t.Errorf("tried %d times in a second", dials)
		}
	})
}

// TestANearEndThatHangsOnceIsNoReasonLater: on a busy machine it may have been us.
func TestANearEndThatHangsOnceIsNoReasonLater(t *testing.T) {
	for name, asked := range map[string]bool{"it refuses": false, "nobody is known to listen": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				hung := false
				w := newWorld(t, Config{Prove: func(int) Proof {
					return Proof{Listens: func(string, string) error {
						if asked && hung {
							return syscall.ECONNREFUSED
						}
						return nil
					}}
				}})
				w.dial = func(ctx context.Context, _, _ string) (stream, error) {
					if hung {
						return nil, syscall.ECONNREFUSED
					}
					<-ctx.Done()
					hung = true
					return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
				}
				w.comes(2 * time.Second).refused("no tunnel to far: ssh is still trying after 2 s; with a longer --wait you may get through")
			})
		})
	}
}

// TestANearEndThatIsGoneIsLookedForAnew: ssh may have the other address only.
func TestANearEndThatIsGoneIsLookedForAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour})
		there := "127.0.0.1:1025"
		dial := w.dial
		w.dial = func(ctx context.Context, network, address string) (stream, error) {
			if address != there {
				return nil, syscall.ECONNREFUSED
			}
			return dial(ctx, network, address)
		}
		yes := func(context.Context, net.Conn) error { return nil }
		w.comesTo("tcp", "localhost:1025", never, yes).connected().leaves()
		there = "[::1]:1025"
		k := w.comesTo("tcp", "localhost:1025", never, yes).connected()
		if k.waited > 10*time.Millisecond {
			t.Errorf("the other address was used only after %s", k.waited)
		}
		k.leaves()
	})
}

// TestAStrangersSocketIsTriedRarelyUntilTheHostHasLetSSHIn: ssh then takes its path
// at once, and the client need not wait for another second.
func TestAStrangersSocketIsTriedRarelyUntilTheHostHasLetSSHIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		letIn, ready := 3500*time.Millisecond, 3510*time.Millisecond
		tries := 0
		w := newWorld(t, Config{Prove: leads(func(context.Context, net.Conn) error {
			if time.Since(began) < ready {
				if time.Since(began) < letIn {
					tries++
				}
				return errStranger
			}
			return nil
		})}, life{letIn: letIn})
		k := w.comesTo("unix", "/near", never, nil).connected()
		if tries != 4 {
			t.Errorf("a stranger was connected to %d times in %s", tries, letIn)
		}
		if k.waited > ready+5*time.Millisecond {
			t.Errorf("connected after %s, ready after %s", k.waited, ready)
		}
		k.leaves()
	})
}

// TestAClientIsToldWhyTheLaunchBeforeHasFailed, not only who is in the way of the
// one that has hardly begun.
func TestAClientIsToldWhyTheLaunchBeforeHasFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Prove: func(int) Proof {
			return Proof{Listens: func(string, string) error { return errStranger }}
		}}, life{lasts: time.Second, why: errors.New("ssh cannot listen")})
		w.comes(5 * time.Second).refused("no tunnel to far: ssh cannot listen")
	})
}

func TestWhoHoldsANearEndIsPartOfTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stopped := make(chan error, 1)
		l := &launch{began: time.Now(), running: make(chan struct{}), letIn: make(chan struct{}), answered: make(chan struct{})}
		l.runs(1, func(int) Proof {
			return Proof{Holder: func(end string) string { return "pid 7 has " + end }}
		})
		tunnel := New(Config{NearEnds: []string{"1025"}, Listen: func() func(string, bool) Meaning {
			return func(line string, _ bool) Meaning { return Meaning{NearEnd: "1025"} }
		}})
		tunnel.listen(l, strings.NewReader("cannot listen to port: 1025\r\n"), strings.NewReader(""), zerolog.Nop(), func(err error) { stopped <- err })
		const want = "ssh cannot listen on 1025, its near end here: cannot listen to port: 1025 (pid 7 has 1025)"
		if err := <-stopped; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	})
}

func TestANearEndThatIsNotThereIsNoConnection(t *testing.T) {
	for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "none"), "tcp": nearEndFor(t, "tcp")} {
		if c, err := dialNear(t.Context(), network, address); c != nil || err == nil || !notYet(err) {
			t.Errorf("%s: %v, %v", address, c, err)
		}
	}
}

// A near end is dialed by a connect(2) of our own, which has to know the family.
func TestANearEndOfEachFamilyIsConnectedTo(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Skipf("no listener at %s: %v", at, err) // the kernel may have no IPv6
		}
		defer l.Close()
		c, err := dialNear(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.RemoteAddr().String(); got != l.Addr().String() {
			t.Errorf("connected to %s, want %s", got, l.Addr())
		}
	}
}
