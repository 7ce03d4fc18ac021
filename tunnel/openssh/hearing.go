package openssh

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// A Hearing is what one ssh has said, and when. Any number of goroutines may use it.
// Step and Verdict of a nil one are those of an ssh that has said nothing.
type Hearing struct {
	Began time.Time
	More  chan struct{} // has something if there is something new

	reader *Reader
	mu     sync.Mutex
	steps  map[Step]time.Duration // until each
	key    string                 // that the host accepts
	tried  int                    // keys that were offered
}

// NewHearing begins now. r reads what ssh says.
func NewHearing(r *Reader) *Hearing {
	return &Hearing{Began: time.Now(), More: make(chan struct{}, 1), reader: r, steps: map[Step]time.Duration{}}
}

// Hear is told a line of ssh's, as Reader.Read is, and returns what that does.
func (h *Hearing) Hear(line string, fromLog bool) Heard {
	heard := h.reader.Read(line, fromLog)
	h.mu.Lock()
	defer h.mu.Unlock()
	step, key := readStep(line)
	switch {
	case heard.LetIn:
		step = Authenticated
	case !fromLog:
		step = ""
	case step == KeyOffered:
		h.tried++
	case step == KeyAccepted:
		h.key = key
	}
	if h.steps[step] == 0 {
		h.steps[step] = max(time.Since(h.Began), time.Microsecond)
	}
	select {
	case h.More <- struct{}{}:
	default:
	}
	return heard
}

// Step is how long it took until a step was taken; 0: it was not.
func (h *Hearing) Step(s Step) time.Duration {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.steps[s]
}

// Tried is how many keys were offered.
func (h *Hearing) Tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tried
}

// Verdict is what ssh's words mean.
func (h *Hearing) Verdict() Verdict {
	if h == nil {
		return Verdict{}
	}
	return h.reader.Verdict()
}

// String tells on what the time of a login was spent. Of a step that ssh does not
// tell of there is nothing: a ProxyCommand has its own.
func (h *Hearing) String() string {
	var all []string
	last := time.Duration(0)
	for _, s := range []Step{Resolved, Connected, KeysExchanged, Authenticated} {
		if end := h.Step(s); end > 0 {
			all = append(all, fmt.Sprintf("%s %d ms", s, (end-last).Milliseconds()))
			last = end
		}
	}
	text := fmt.Sprintf("in %d ms", last.Milliseconds())
	if len(all) > 1 {
		text += " (" + strings.Join(all, ", ") + ")"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.key != "" {
		text += ", by " + h.key
	}
	if n := h.tried - 1; n > 0 && h.key != "" {
		text += fmt.Sprintf("; keys tried before it, a round trip each: %d, which IdentitiesOnly and IdentityFile save", n)
	}
	return text
}
