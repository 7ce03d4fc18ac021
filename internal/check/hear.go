package check

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"minimail/tunnel"
	"minimail/tunnel/openssh"
)

// A hearer hears what check's ssh says.
type hearer struct {
	began  time.Time
	reader *openssh.Reader
	more   chan struct{} // has something if there is something new

	mu    sync.Mutex
	in    time.Duration // until the host let us in; 0: it has not
	steps map[openssh.Step]time.Duration
	key   string // that the host accepts
	tried int    // keys that it was offered
}

func newHearer(c *openssh.Client) *hearer {
	return &hearer{began: time.Now(), reader: c.NewReader(), more: make(chan struct{}, 1), steps: map[openssh.Step]time.Duration{}}
}

// listen tells the tunnel what the words of its ssh mean.
func (h *hearer) listen() func(string, bool) tunnel.Meaning {
	return func(line string, fromLog bool) tunnel.Meaning {
		m := tunnel.Meaning(h.reader.Read(line, fromLog))
		h.mu.Lock()
		defer h.mu.Unlock()
		now := max(time.Since(h.began), time.Microsecond)
		if m.LetIn {
			h.in = now
		}
		if fromLog {
			h.note(line, now)
		}
		select {
		case h.more <- struct{}{}:
		default:
		}
		return m
	}
}

// note keeps the time of each step's first line. The caller holds mu.
func (h *hearer) note(line string, now time.Duration) {
	step, key := openssh.ReadStep(line)
	if _, before := h.steps[step]; step != "" && !before {
		h.steps[step] = now
	}
	switch step {
	case openssh.KeyOffered:
		h.tried++
	case openssh.KeyAccepted:
		h.key = key
	}
}

// letIn is how long it took until the host let us in; 0: it did not.
func (h *hearer) letIn() time.Duration {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.in
}

// offersNoKey reports whether ssh, which tells of its steps, has offered none.
func (h *hearer) offersNoKey() bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.steps[openssh.KeysExchanged] > 0 && h.tried == 0
}

// verdict is what ssh's words mean.
func (h *hearer) verdict() openssh.Verdict {
	if h == nil {
		return openssh.Verdict{}
	}
	return h.reader.Verdict()
}

// where tells on what the time of a login was spent. Of a step that ssh does not
// tell of there is nothing: a ProxyCommand has its own.
func (h *hearer) where() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	last := time.Duration(0)
	for _, s := range []struct {
		name string
		end  time.Duration
	}{
		{"name", h.steps[openssh.Resolved]}, {"connect", h.steps[openssh.Connected]},
		{"key exchange", h.steps[openssh.KeysExchanged]}, {"authentication", h.in},
	} {
		if s.end > 0 {
			all = append(all, fmt.Sprintf("%s %d ms", s.name, (s.end-last).Milliseconds()))
			last = s.end
		}
	}
	text := fmt.Sprintf("in %d ms", h.in.Milliseconds())
	if len(all) > 1 {
		text += " (" + strings.Join(all, ", ") + ")"
	}
	if h.key != "" {
		text += ", by " + h.key
	}
	if n := h.tried - 1; h.key != "" && n > 0 {
		text += fmt.Sprintf("; %d keys were tried before it, a round trip each: IdentitiesOnly and IdentityFile save them", n)
	}
	return text
}
