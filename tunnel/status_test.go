package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheStatusFollowsTheTunnel goes once around the table of states.
func TestTheStatusFollowsTheTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		tun := New(Config{Command: runs(nil), Idle: time.Minute, Changed: func(s Status) {
			told = append(told, fmt.Sprint(s.State, ", ", s.Clients))
		}})
		fail := failure{why: errors.New("refused"), kind: Unseen}
		tun.run = func(ctx context.Context, l *launch) error {
			l.runs(4711, nil)
			select {
			case <-ctx.Done():
				time.Sleep(time.Second) // slow to go
				return nil
			case <-time.After(90 * time.Second):
				return fail
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		go tun.Run(ctx)
		want := func(what string, state State, pid, clients int, until time.Duration) {
			t.Helper()
			s := tun.Status()
			left := time.Duration(0)
			if !s.Until.IsZero() {
				left = time.Until(s.Until)
			}
			if s.State != state || s.PID != pid || s.Clients != clients || left != until || s.Until.IsZero() != (until == 0) {
				t.Errorf("%s: %+v, %s left; want %s, pid %d, %d clients, %s left", what, s, left, state, pid, clients, until)
			}
		}
		want("at first", Down, 0, 0, 0)
		r, err := tun.lease(ctx)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want("launched", Starting, 4711, 1, 0)
		tun.greeted <- r.launch
		want("answered", Up, 4711, 1, 0)
		tun.giveBack(r.launch)
		want("idle", Up, 4711, 0, time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		want("told to go", Closing, 4711, 0, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		want("gone", Down, 0, 0, 0)
		if r, err = tun.lease(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if s := tun.Status(); s.State != BackingOff || s.Why != fail || !s.Until.After(time.Now()) {
			t.Errorf("failed: %+v", s)
		}
		stop()
		<-tun.stopped
		if s := tun.Status(); s != (Status{}) {
			t.Errorf("stopped: %+v", s)
		}
		if want := []string{"down, 0", "starting, 1", "up, 1", "up, 0", "closing, 0", "down, 0", "starting, 1", "backing off, 0"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
