package tunnel

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatAClientThatGivesUpIsTold(t *testing.T) {
	before, problem := errors.New("before"), errors.New("problem")
	const still = "no tunnel to far: ssh is still trying after 5 s"
	const longer = "; with a longer --wait you may get through"
	for _, test := range []struct {
		name   string
		up     bool
		line   string
		knock  knock
		want   string
		letIn  time.Duration // ago; 0: it was not
		silent time.Duration // since the line
	}{
		{name: "nothing is known", want: still + longer},
		{name: "a line", line: "a line", want: still + " (a line)" + longer},
		{name: "a line from before the client", line: "a line", silent: time.Hour, want: still + longer},
		{name: "a problem", knock: knock{problem: problem}, want: "no tunnel to far: problem"},
		{name: "a problem and a line", line: "a line", knock: knock{problem: problem}, want: "no tunnel to far: problem (a line)"},
		{name: "the launch before", knock: knock{before: before}, want: "before"},
		{name: "the launch before, and a line", line: "a line", knock: knock{before: before}, want: "before"},
		{name: "the launch before, and a problem of our own", knock: knock{before: before, problem: problem}, want: "no tunnel to far: problem"},
		{name: "the launch before, and a stranger", knock: knock{before: before, problem: problem, told: []string{"he"}}, want: "before"},
		{name: "a stranger", knock: knock{problem: problem, told: []string{"he"}}, want: "no tunnel to far: problem"},
		{name: "let in just now", letIn: nearEndTimeout, line: "a line", want: still + " (a line)" + longer},
		{name: "let in before", letIn: nearEndTimeout + 1, line: "a line", want: "no tunnel to far: the host has let ssh in, but ssh does not listen at the near end (a line)"},
		{name: "up", up: true, want: "the tunnel to far is up, but: too many clients are waiting for its answer"},
		{name: "up, a line", up: true, line: "a line", want: "the tunnel to far is up, but: a line"},
		{name: "up, a problem", up: true, knock: knock{problem: problem}, want: "the tunnel to far is up, but: problem"},
		{name: "up, a problem and a line", up: true, line: "a line", knock: knock{problem: problem}, want: "the tunnel to far is up, but: problem (a line)"},
		{name: "up, the launch before", up: true, knock: knock{before: before}, want: "before"},
		{name: "up, the launch before, a stranger", up: true, knock: knock{before: before, problem: problem, told: []string{"he"}}, want: "the tunnel to far is up, but: problem"},
	} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			defer l.stop(nil)
			if test.line != "" {
				l.remember(Meaning{Why: test.line})
			}
			time.Sleep(test.silent)
			k := test.knock
			k.t, k.l, k.began = New(Config{Name: "far"}), l, time.Now()
			time.Sleep(5 * time.Second)
			l.began = time.Now().Add(-5 * time.Second)
			if test.silent == 0 {
				k.began = l.began
			}
			if test.letIn > 0 {
				l.letInAt = time.Now().Add(-test.letIn)
				close(l.letIn)
			}
			if test.up {
				close(l.answered)
			}
			if got := k.why().Error(); got != test.want {
				t.Errorf("%s: %q, want %q", test.name, got, test.want)
			}
		})
	}
}

func TestALaunchThatEndsBeforeItRunsIsAReasonAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := failure{why: errors.New("cannot run ssh"), kind: Unseen, hopeless: true}
		tun := New(Config{Name: "far", Command: runs(nil)})
		tun.run = func(context.Context, *launch) error { time.Sleep(2 * time.Second); return why }
		ctx, stop := context.WithCancel(t.Context())
		go tun.Run(ctx)
		began := time.Now()
		_, err := tun.Dial(ctx, "tcp", "127.0.0.1:1025", nil)
		if err == nil || !errors.Is(err, why) || time.Since(began) != 2*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		stop()
		<-tun.stopped
	})
}

// A client whose patience ends in the middle of a try has not met a full queue.
func TestATryThatAClientsEndCutsShortIsNoProblem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.dial = func(ctx context.Context, _, _ string) (stream, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
		w.comes(nearTimeout / 2).refused("no tunnel to far: ssh is still trying after 0 s; with a longer --wait you may get through")
	})
}

func TestATryThatIsNotDoneDoesNotHideWhatWasWrongWithTheOneBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tries := 0
		w := newWorld(t, Config{Prove: leads(func(ctx context.Context, _ net.Conn) error {
			if tries++; tries == 1 {
				return errStranger
			}
			<-ctx.Done()
			return ctx.Err()
		})})
		w.comes(2 * time.Second).refused("no tunnel to far: " + errStranger.Error())
	})
}

func TestWhomNoSupervisorTellsOfTheFirstAnswerGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLaunch(Command{})
		defer l.stop(nil)
		w := &world{t: t, lives: []*life{{l: l, began: time.Now()}}}
		tun := New(Config{})
		tun.dial = w.near
		close(tun.stopped)
		k := knock{t: tun, l: l, network: "tcp", address: "127.0.0.1:1025"}
		if c, _ := k.once(t.Context()); c == nil {
			t.Errorf("no connection, %v", k.problem)
		}
	})
}

// A proof that cannot be had in time proves nothing.
func TestANearEndOfWhichNobodyKnowsWhoseItIsIsNotUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Prove: leads(func(context.Context, net.Conn) error { return syscall.ECONNREFUSED })})
		w.comes(3 * time.Second).refused("no tunnel to far: ssh is still trying after 3 s; with a longer --wait you may get through")
	})
}

func TestAStrangerIsTriedRarelyAlsoAfterTheLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tries := 0
		w := newWorld(t, Config{Idle: time.Hour, Prove: leads(func(context.Context, net.Conn) error { tries++; return errStranger })}, life{letIn: time.Millisecond})
		w.comes(time.Minute).refused("no tunnel to far: " + errStranger.Error())
		began := tries
		w.comes(time.Minute).refused("no tunnel to far: " + errStranger.Error())
		if n := tries - began; n < 55 || n > 61 {
			t.Errorf("tried %d times in a minute", n)
		}
	})
}
