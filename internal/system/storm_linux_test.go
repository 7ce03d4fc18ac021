package system

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"minimail/internal/testbed"
)

// TestReloadsAtTheSameTimeAllTakeEffectAndItRunsThroughout: the settings that
// somebody has just written are in force when his reload has ended, however many
// others reload, and nobody is told meanwhile that it does not run.
func TestReloadsAtTheSameTimeAllTakeEffectAndItRunsThroughout(t *testing.T) {
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "60s")
	log := filepath.Join(testbed.PublicDir(t), "log")
	daemonize(t, m, log)
	came := comes(m)
	var reloads, looks sync.WaitGroup
	done := make(chan struct{})
	looks.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				t.Logf("%d looks", n)
				return
			default:
			}
			if out, err := exec.Command(testbed.Program, "status", "--settings", "/dev/null", "-p", m.Pid).Output(); err != nil {
				t.Errorf("status: %v\n%s", err, out)
			}
		}
	})
	for i := range 15 {
		word := []string{"reload", "restart"}[i%2]
		reloads.Go(func() {
			out, err := again(t, m, word, "-l", log)
			if got := testbed.Found(`in the place of (pid \d+)`, out); err != nil || len(got) != 1 {
				t.Errorf("%s: %v\n%s", word, err, out)
			}
		})
	}
	reloads.Wait()
	close(done)
	looks.Wait()
	came.leaves(t)
	testbed.Eventually(t, "one runs", func() bool { return fmt.Sprint(minimails(m)) == fmt.Sprintf("[%d]", pidOf(t, m)) })
}

// TestAStopDuringReloadsEndsWhoeverRuns, also one that has taken over since, and
// was not told to stop; and no reload starts it again.
func TestAStopDuringReloadsEndsWhoeverRuns(t *testing.T) {
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for range 3 {
		daemonize(t, m, "/dev/null")
		first := pidOf(t, m)
		ctx, cancel := context.WithTimeout(context.Background(), testbed.Patience)
		defer cancel()
		var reloads sync.WaitGroup
		for range 3 {
			reloads.Go(func() {
				for err := error(nil); err == nil && ctx.Err() == nil; {
					_, err = again(t, m, "reload")
				}
			})
		}
		testbed.Eventually(t, "one has taken over", func() bool { return !slices.Contains(minimails(m), first) })
		out, err := exec.CommandContext(ctx, testbed.Program, "stop", "--settings", "/dev/null", "-p", m.Pid).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "minimail is stopped") {
			t.Errorf("%v\n%s", err, out)
		}
		reloads.Wait()
		if left := minimails(m); len(left) > 0 {
			t.Fatalf("still there: %v", left)
		}
	}
}
