package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// A gate lets so many clients in at a time, and so many a second, and keeps
// anybody from having it to himself. As long as there is room enough nobody is
// asked who he is: half of all places go to whoever comes first. Of the other
// half an owner can have no more than leaves some to others. An owner is a local
// user, or another machine.
//
// A nil gate is open.
type gate struct {
	max, room int // places, and how many may wait for one
	owner     func(net.Conn) (uid int, ok bool)

	mu    sync.Mutex // guards what follows
	taken int
	by    map[string]int // places that are taken by owners who were asked
	line  []*waiter      // in the order in which they came
	pace  bucket
	paces map[string]*bucket // of owners who were asked
}

var (
	errCrowded = errors.New("too many of your clients wait already")
	errOften   = errors.New("too many new clients a second")
)

type waiter struct {
	who string
	in  chan struct{}
}

// The pace is of new clients a second, in the long run; pacePlaces of them for
// each place. A burst is paceBurst seconds' worth.
const (
	minPace    = 32
	pacePlaces = 8
	paceBurst  = 64
)

func newGate(places, room int, owner func(net.Conn) (int, bool)) *gate {
	return &gate{max: places, room: room, owner: owner, by: map[string]int{}, paces: map[string]*bucket{}}
}

// share is how many places one owner can have beside the first half.
func (g *gate) share() int {
	if g.owner == nil {
		return g.max
	}
	return g.max - g.max/2 - g.max/16
}

// enter waits for a place, at most until ctx is done. who is to be given to
// leave.
func (g *gate) enter(ctx context.Context, client net.Conn) (who string, err error) {
	if g == nil {
		return "", context.Cause(ctx)
	}
	if err := g.keepPace(ctx, client); err != nil {
		return "", err
	}
	g.mu.Lock()
	if g.taken < g.max/2 && len(g.line) == 0 {
		g.taken++
		g.mu.Unlock()
		return "", nil
	}
	g.mu.Unlock()
	w := &waiter{g.who(client), make(chan struct{})}
	if err := g.queue(w); err != nil {
		return "", err
	}
	select {
	case <-w.in:
		return w.who, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.line, w); i >= 0 {
		g.line = slices.Delete(g.line, i, i+1)
	} else {
		g.free(w.who)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		return "", cause
	}
	return "", fmt.Errorf("%d clients are served at a time, and none has left for you", g.max)
}

// largeRoom is one that nobody fills but who comes without end. Where there are
// few descriptors it is smaller, and nobody is turned away for it.
const largeRoom = 1000

// queue puts a client into the line, unless too many of its owner's wait already.
func (g *gate) queue(w *waiter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owner != nil && g.room >= largeRoom && len(g.line) >= g.room/2 {
		mine := 0
		for _, other := range g.line {
			if other.who == w.who {
				mine++
			}
		}
		if mine >= g.room-g.room/16 {
			return errCrowded
		}
	}
	g.line = append(g.line, w)
	g.admit()
	return nil
}

// admit lets those in for whom there is a place. The caller holds g.mu.
func (g *gate) admit() {
	g.line = slices.DeleteFunc(g.line, func(w *waiter) bool {
		if g.taken >= g.max || g.by[w.who] >= g.share() {
			return false
		}
		g.taken++
		g.by[w.who]++
		close(w.in)
		return true
	})
}

func (g *gate) leave(who string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free(who)
}

// free gives a place back. The caller holds g.mu.
func (g *gate) free(who string) {
	g.taken--
	if who != "" {
		if g.by[who]--; g.by[who] == 0 {
			delete(g.by, who)
		}
	}
	if len(g.line) > 0 {
		g.admit()
	}
}

// who is a client's owner; all of whom that is not known are one.
func (g *gate) who(client net.Conn) string {
	if g.owner == nil {
		return "anybody"
	}
	if uid, ok := g.owner(client); ok {
		return fmt.Sprint("uid ", uid)
	}
	if a, ok := client.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return "anybody"
}

// keepPace waits where clients come too often. Half of a burst is for everybody;
// then each owner has a pace of its own, half of the whole.
func (g *gate) keepPace(ctx context.Context, client net.Conn) error {
	rate := float64(max(minPace, g.max/pacePlaces))
	now := time.Now()
	if g.calm(now, rate) {
		return nil
	}
	end, _ := ctx.Deadline()
	wait, ok := g.reserve(g.who(client), now, end.Sub(now), rate/2)
	if !ok {
		return errOften
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// calm reports whether so few have come of late that nobody need be asked who he
// is, and counts one more.
func (g *gate) calm(now time.Time, rate float64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pace.fill(now, rate, paceBurst*rate)
	is := g.pace.level >= paceBurst*rate/2
	g.pace.level = max(g.pace.level-1, 0)
	return is
}

// reserve returns when it is an owner's turn. It is not ok if that is too late.
func (g *gate) reserve(who string, now time.Time, patience time.Duration, rate float64) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.paces[who]
	if b == nil {
		if len(g.paces) == maxPaces {
			clear(g.paces)
		}
		b = new(bucket)
		g.paces[who] = b
	}
	b.fill(now, rate, rate)
	if b.level < 1 {
		wait = time.Duration((1 - b.level) / rate * float64(time.Second))
	}
	if wait > patience {
		return 0, false
	}
	b.level--
	return wait, true
}

// maxPaces is how many owners are told from each other.
const maxPaces = 1000

// A bucket is full at first, and less than empty if something has been promised.
type bucket struct {
	level float64
	at    time.Time // when it was filled; zero: never
}

func (b *bucket) fill(now time.Time, rate, most float64) {
	if b.at.IsZero() {
		b.level = most
	} else {
		b.level = min(b.level+rate*now.Sub(b.at).Seconds(), most)
	}
	b.at = now
}
