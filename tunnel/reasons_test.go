package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
		w.comes(time.Second).refused("the tunnel to far is up, but: too many clients are waiting for its answer").waitedFor(time.Second)
		for _, k := range clients {
			<-k.done
		}
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
		w.comes(time.Second).waitedFor(time.Second).refused("no tunnel to far: this machine is too busy to launch ssh; with a longer --wait you may get through")
		first.connected().leaves()
	})
}
