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
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *Words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *Words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func (w *Words) Has(re string) bool { return regexp.MustCompile(re).MatchString(w.String()) }

func (w *Words) Count(re string) int {
	return len(regexp.MustCompile(re).FindAllString(w.String(), -1))
}

func (w *Words) Wait(t testing.TB, re string) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !w.Has(re) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not said within %s, but:\n%s", re, Patience, w)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %s: %s", Patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
