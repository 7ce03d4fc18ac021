package tunnel

import (
	"errors"
	"fmt"
	"time"
)

// The pauses after failed launches. They stay below what gets a user banned:
// sshd's PerSourcePenalties, fail2ban (5 failures in 10 min), ufw's limit (6
// connections in 30 s), sshguard. The last one repeats.
var (
	// A person has to mend what the host rejected.
	rejectedPauses = []time.Duration{time.Minute, 15 * time.Minute, 30 * time.Minute}
	// The network may mend itself.
	failedPauses = []time.Duration{time.Second, 3 * time.Second, 6 * time.Second, 10 * time.Second}
)

// backOff is the state between a launch that failed and the next one that is
// allowed. The zero value is off. It belongs to Run.
type backOff struct {
	over     <-chan time.Time // when it ends; nil: it is off
	until    time.Time
	why      error // of the last failure, even when the pause is over
	since    time.Time
	rejected bool
	door     chan struct{} // closed at its end: clients wait at it

	rejections, failures int // in a row
}

func (b *backOff) on() bool { return b.over != nil }

// failed starts the pause that follows a launch that ended because of why.
func (b *backOff) failed(why error) time.Duration {
	pauses, n := failedPauses, &b.failures
	b.rejected = rejected(why)
	if b.rejected {
		pauses, n = rejectedPauses, &b.rejections
	}
	d := pauses[min(*n, len(pauses)-1)]
	d += upTo(d / 5) // so that many machines do not knock in step
	*n++
	b.why, b.since = why, time.Now()
	b.until, b.over, b.door = b.since.Add(d), time.After(d), make(chan struct{})
	return d
}

// end lets those in who wait at the door.
func (b *backOff) end() {
	if b.on() {
		close(b.door)
	}
	b.over, b.door = nil, nil
}

// forget ends the pause and starts the pauses anew.
func (b *backOff) forget() {
	b.end()
	b.rejections, b.failures = 0, 0
}

// reply is for a client that comes while the pause is on: it waits, or is
// refused when waiting cannot help.
func (b *backOff) reply(name string) leaseReply {
	next := fmt.Sprintf("; next try in %s", inSeconds(time.Until(b.until)))
	r := leaseReply{err: noTunnel(name, b.why, next), why: noTunnel(name, b.why, "")}
	if !b.rejected {
		r.retry = b.door
	}
	return r
}

func (b *backOff) hint() string {
	if b.rejected {
		return "; once that is mended, a restart or a HUP tries again at once"
	}
	return ""
}

// inSeconds rounds up, so that nobody is told a time that is too early.
func inSeconds(d time.Duration) string {
	s := int64((d + time.Second - 1) / time.Second)
	if s >= 120 {
		return fmt.Sprintf("%d min", (s+59)/60)
	}
	return fmt.Sprintf("%d s", max(s, 0))
}

// rejected tells whether a launch ended because the host turned us away.
func rejected(why error) bool { return errors.As(why, new(rejection)) }
