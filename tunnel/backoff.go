package tunnel

import (
	"errors"
	"fmt"
	"time"
)

// What a failure means for the pause that follows it.
const (
	Unclear  = ""         // the host may have counted it as a failed login
	Unseen   = "unseen"   // nobody has seen us, or nobody minds
	Early    = "early"    // who answered has hung up, or is no sshd: we have done no harm
	Hidden   = "hidden"   // only a helper on the way to the host knows, or a frozen host will
	Definite = "definite" // no waiting mends it
)

// pausesAfter are what follows failed launches; the last one of each kind
// repeats. They stay below what gets a user banned (sshd's PerSourcePenalties,
// fail2ban's 5 failures in 10 min, ufw's limit of 6 connections in 30 s,
// sshguard): of what a host may count, it sees two in 10 min, and of what it may
// or may not see, four. Kinds that it may count share a place in their tables, so
// that a mixture of them is no more.
var pausesAfter = map[string][]time.Duration{
	Unclear:  {3 * time.Second, 10 * time.Minute},
	Unseen:   {time.Second, 3 * time.Second, 6 * time.Second, 10 * time.Second},
	Early:    {time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute},
	Hidden:   {3 * time.Second, 2 * time.Minute, 4 * time.Minute},
	Definite: {time.Minute, 15 * time.Minute, 30 * time.Minute},
}

const (
	// betweenLaunches is the least time from one launch to the next.
	betweenLaunches = 3 * time.Second
	// forgotten is how long no launch must have failed for the pauses to begin
	// anew.
	forgotten = time.Hour
	// lasting is how old a tunnel that ends by itself must have become for that,
	// since its launch: ufw counts the connections of 30 s.
	lasting = 30 * time.Second
	// At most mostCounted failures that a host may count are made in countedFor,
	// whatever logins succeed in between: to whoever bans these make no difference.
	mostCounted, countedFor = 4, 10 * time.Minute
	// held is the longest pause that clients wait through; from a longer one they
	// are told at once.
	held = time.Minute
)

// A failure is why a launch ended by itself.
type failure struct {
	why  error
	kind string
	// hopeless is that clients are refused at once: waiting cannot help.
	hopeless bool
}

func (f failure) Error() string { return f.why.Error() }
func (f failure) Unwrap() error { return f.why }

// failureOf is err as a failure. What is not known to be harmless is not.
func failureOf(err error) failure {
	var f failure
	if !errors.As(err, &f) {
		f = failure{why: err}
	}
	f.hopeless = f.hopeless || f.kind == Definite
	return f
}

// backOff is the state between a launch that failed and the next one that is
// allowed. The zero value is off. It belongs to Run.
type backOff struct {
	over     <-chan time.Time // when it ends; nil: it is off
	until    time.Time
	why      error // of the last failure, even when the pause is over
	since    time.Time
	hopeless bool          // clients are refused
	door     chan struct{} // closed at its end: clients wait at it

	failures map[string]int // of each kind, in a row
	counted  []time.Time    // the last that a host may have counted
}

func (b *backOff) on() bool { return b.over != nil }

// failed starts the pause that follows a launch that ended because of why. It
// ends no sooner than earliest.
func (b *backOff) failed(why error, earliest time.Time) time.Duration {
	f := failureOf(why)
	if b.failures == nil || time.Since(b.since) > forgotten {
		b.failures = make(map[string]int)
	}
	kind := f.kind
	if mayCount(kind) {
		kind, earliest = Unclear, b.count(earliest)
	}
	table := pausesAfter[f.kind]
	d := table[min(b.failures[kind], len(table)-1)]
	b.failures[kind]++
	d = max(d, time.Until(earliest))
	d += upTo(d / 5) // so that many machines do not knock in step
	b.why, b.since, b.hopeless = why, time.Now(), f.hopeless
	b.until, b.over, b.door = b.since.Add(d), time.After(d), make(chan struct{})
	return d
}

// mayCount reports whether a host may take a failure for one that a ban is made of.
func mayCount(kind string) bool { return kind != Unseen && kind != Early }

// count notes a failure of those, and returns when the next may happen, earliest
// or later.
func (b *backOff) count(earliest time.Time) time.Time {
	b.counted = append(b.counted, time.Now())
	if n := len(b.counted); n >= mostCounted {
		b.counted = b.counted[n-mostCounted:]
		if again := b.counted[0].Add(countedFor); again.After(earliest) {
			return again
		}
	}
	return earliest
}

// end lets those in who wait at the door.
func (b *backOff) end() {
	if b.on() {
		close(b.door)
	}
	b.over, b.door = nil, nil
}

// succeeded ends the pause and starts the pauses anew.
func (b *backOff) succeeded() {
	b.end()
	b.failures = nil
}

// forget also forgets what a host may have counted: somebody has mended it.
func (b *backOff) forget() {
	b.succeeded()
	b.counted = nil
}

// reply is for a client that comes while the pause is on: it waits, or is
// refused when that cannot help, or takes too long.
func (b *backOff) reply(name string) leaseReply {
	r := leaseReply{why: noTunnel(name, b.why, ""), until: b.until}
	if !b.hopeless && time.Until(b.until) <= held {
		r.retry = b.door
	}
	return r
}

func (b *backOff) hint() string {
	if time.Until(b.until) > held {
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
