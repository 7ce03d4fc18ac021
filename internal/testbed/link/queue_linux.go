package link

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A queue is one way of a link.
type queue struct {
	mu   sync.Mutex
	c    Conditions
	dice *rand.Rand
	free time.Time // when the last packet will have been sent, by the rate

	packets chan dated
	closed  chan struct{} // when nothing more is sent
}

type dated struct {
	due    time.Time
	packet []byte
}

func newQueue(seed uint64) *queue {
	// More packets than any Queue has: a full channel loses them.
	return &queue{dice: rand.New(rand.NewPCG(seed, 0)), packets: make(chan dated, 1<<14), closed: make(chan struct{})}
}

func (q *queue) set(c Conditions) {
	if c.Queue == 0 {
		c.Queue = 64 << 10
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.c = c
}

// put sends a packet, unless it is lost.
func (q *queue) put(packet []byte) {
	due, arrives := q.fate(time.Now(), len(packet))
	if !arrives {
		return
	}
	select {
	case q.packets <- dated{due, append([]byte(nil), packet...)}:
	default:
	}
}

// fate is when a packet of so many bytes arrives that is sent now, if it does.
func (q *queue) fate(now time.Time, size int) (due time.Time, arrives bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lost := q.dice.Float64() < q.c.Loss // the dice are thrown for each, so that fates depend on nothing else
	if lost || q.c.Hole {
		return now, false
	}
	if q.c.Rate == 0 {
		return now.Add(q.c.Delay), true
	}
	if q.free.Before(now) {
		q.free = now
	}
	if q.onWire(size) > q.onWire(q.c.Queue)-q.free.Sub(now) {
		return now, false
	}
	q.free = q.free.Add(q.onWire(size))
	return q.free.Add(q.c.Delay), true
}

// onWire is how long so many bytes take at the rate.
func (q *queue) onWire(bytes int) time.Duration {
	return time.Duration(float64(bytes) * 8 / float64(q.c.Rate) * float64(time.Second))
}

// next waits until a packet is due and returns it, in the order of sending, or
// nil once the queue is closed.
func (q *queue) next() []byte {
	select {
	case p := <-q.packets:
		// Not time.Sleep, which is late by up to a millisecond. In short pieces,
		// so that closing need not wait.
		for d := time.Until(p.due); d > 0; d = time.Until(p.due) {
			t := unix.NsecToTimespec(int64(min(d, 20*time.Millisecond)))
			_ = unix.Nanosleep(&t, nil)
			if q.isClosed() {
				return nil
			}
		}
		return p.packet
	case <-q.closed:
		return nil
	}
}

func (q *queue) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}
