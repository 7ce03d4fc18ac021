package testbed

import (
	"bytes"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Words is what a process says, for others to wait for.
type Words struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed when there is more; nil if nobody waits
}

func (w *Words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more != nil {
		close(w.more)
		w.more = nil
	}
	return w.buf.Write(p)
}

func (w *Words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// Has reports whether it was said.
func (w *Words) Has(re string) bool {
	is, _ := w.matches(regexp.MustCompile(re))
	return is
}

// Count is how often it was said.
func (w *Words) Count(re string) int {
	return len(regexp.MustCompile(re).FindAllString(w.String(), -1))
}

// Wait returns when it has been said, and fails the test if it never is.
func (w *Words) Wait(t testing.TB, re string) {
	t.Helper()
	late, want := time.After(Patience), regexp.MustCompile(re)
	for {
		is, more := w.matches(want)
		if is {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q was not said within %s, but:\n%s", re, Patience, w)
		}
	}
}

func (w *Words) matches(re *regexp.Regexp) (is bool, more <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more == nil {
		w.more = make(chan struct{})
	}
	return re.Match(w.buf.Bytes()), w.more
}

// Eventually returns when something is so, and fails the test if it never is.
// It looks more and more rarely.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	if !Soon(is) {
		t.Fatalf("not so within %s: %s", Patience, what)
	}
}

// Soon reports whether something is so within the patience of a test.
func Soon(is func() bool) bool {
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); !is(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return false
		}
		pause = min(pause*3/2, 50*time.Millisecond)
	}
	return true
}
