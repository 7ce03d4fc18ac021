package tunnel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A clock that is set must not end a tunnel under way, nor lengthen a pause:
// all that is measured, or promised to a client, is so by the monotonic clock
// (package time). A test cannot set the machine's clock; it can see that each
// time that is kept has a monotonic reading, without which package time would
// compare wall clocks.
func TestFault37ClockIsSet(t *testing.T) {
	tun := New(Config{Command: runs(nil)})
	tun.run = func(ctx context.Context, _ *launch) error { return nil }
	l := tun.launch()
	<-l.ended
	l.remember(Meaning{Why: "words"})
	var b backOff
	b.failed(errors.New("words"), time.Now())
	for what, at := range map[string]time.Time{"a launch's begin": l.began, "a line's time": l.last.at, "the end of a pause": b.until} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s has no monotonic reading: %s", what, at)
		}
	}
}
