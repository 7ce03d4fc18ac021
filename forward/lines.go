package forward

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Lines about clients are limited: a loop that connects would fill the disk.
const (
	linesAtOnce  = 1000
	linesASecond = 5 // in the long run
)

// lines is a zerolog.Sampler that counts what it does not let pass, and has the
// number logged before the next line.
type lines struct {
	log zerolog.Logger

	mu      sync.Mutex // guards both
	pace    bucket
	leftOut int
}

// Sample reports whether a line is logged.
func (l *lines) Sample(zerolog.Level) bool {
	n, ok := l.take(time.Now())
	if n > 0 {
		l.log.Warn().Int("lines", n).Msg("more is to be said of clients than is logged")
	}
	return ok
}

// take returns how many lines were left out before this one, if it is logged.
func (l *lines) take(now time.Time) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace.fill(now, linesASecond, linesAtOnce)
	if l.pace.level < 1 {
		l.leftOut++
		return 0, false
	}
	l.pace.level--
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}
