package tunnel

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A logBook is a log that can be read while it is written.
type logBook struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed at the next line
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(p))
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return len(p), nil
}

// find waits for a line with text in it, and returns it.
func (b *logBook) find(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(soon)
	for {
		b.mu.Lock()
		i := slices.IndexFunc(b.lines, func(l string) bool { return strings.Contains(l, text) })
		if i >= 0 {
			defer b.mu.Unlock()
			return b.lines[i]
		}
		if b.more == nil {
			b.more = make(chan struct{})
		}
		more := b.more
		b.mu.Unlock()
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("never logged: %s; but: %s", text, b)
		}
	}
}

func (b *logBook) count(text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "")
}
