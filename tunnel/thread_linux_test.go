package tunnel

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// A wanderer writes a log that makes a goroutine without a thread of its own
// move to another, when it says that ssh has been launched.
type wanderer struct{ threads map[int]bool }

func (w *wanderer) Write(p []byte) (int, error) {
	if !strings.Contains(string(p), "launched ssh") {
		return len(p), nil
	}
	// When it comes back from the kernel, others have all the processors, and
	// whichever thread is free first goes on with it.
	var done atomic.Bool
	var others sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		others.Go(func() {
			for !done.Load() {
			}
		})
	}
	for range 50 {
		w.threads[unix.Gettid()] = true
		if len(w.threads) > 1 {
			break
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	done.Store(true)
	others.Wait()
	return len(p), nil
}

// The kernel ends ssh when the thread that has started it ends, so nobody else
// may have that thread as long as ssh lives.
func TestTheThreadThatHasStartedSSHIsKept(t *testing.T) {
	w := &wanderer{threads: make(map[int]bool)}
	tunnel := New(Config{Command: runs(fake("speaker", "1", "word")), Log: zerolog.New(w)})
	done := make(chan error, 1)
	go func() {
		l := newLaunch(tunnel.cfg.Command())
		done <- tunnel.ssh(l.life, l)
	}()
	select {
	case err := <-done:
		if err == nil || err.Error() != "word" {
			t.Errorf("ended because of %v", err)
		}
	case <-time.After(soon):
		t.Fatal("the command does not end")
	}
	if len(w.threads) != 1 {
		t.Errorf("what runs ssh has been on %d threads, want 1", len(w.threads))
	}
}
