package system

import (
	"context"
	"fmt"
	"os"
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
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "60s", many)
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
		ctx, cancel := context.WithTimeout(context.Background(), 3*testbed.Patience)
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
		testbed.NoneIsLeft(t, func() []int { return minimails(m) })
	}
}

// TestWhoeverFindsADeadPidLooksAgain: a minimail is replaced while status, or stop,
// is between reading its pid and looking whether it lives, or signalling it (strace
// delays that). The next one is who is meant.
func TestWhoeverFindsADeadPidLooksAgain(t *testing.T) {
	t.Parallel()
	testbed.NeedProgram(t, "strace")
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	daemonize(t, m, "/dev/null")
	for _, c := range []struct{ word, call, want string }{
		{"status", "kill", "Running:     yes"},
		{"stop", "pidfd_send_signal", "minimail is stopped: pid "},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*testbed.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+c.call, "-e", "inject="+c.call+":delay_enter=10000000",
			testbed.Program, c.word, "--settings", "/dev/null", "-p", m.Pid)
		out := new(testbed.Words)
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, testbed.Patience
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, "strace has begun", func() bool {
			return len(testbed.CommandsWith("\x00"+c.word+"\x00--settings\x00/dev/null\x00-p\x00"+m.Pid)) > 1
		})
		if out, err := again(t, m, "reload"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v\n%s", c.word, err, out)
		}
	}
	testbed.NoneIsLeft(t, func() []int { return minimails(m) })
}

// TestAStopThatWaitsForSSHSpeaksOfNoClients: ssh is deaf to TERM, and nobody is at work.
func TestAStopThatWaitsForSSHSpeaksOfNoClients(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	ssh := testbed.Script(t, "trap '' TERM\nexec /usr/bin/ssh \"$@\"\n")
	m := h.Prepare(t, testbed.MailServer(t, nil), "--ssh", ssh, "--idle", "1h")
	daemonize(t, m, "/dev/null")
	m.Serves(t)
	out := testbed.Run(t, testbed.Program, "stop", "--settings", "/dev/null", "-p", m.Pid)
	if !strings.HasPrefix(out, "minimail is stopped: pid ") {
		t.Errorf("stop says %q", out)
	}
}
