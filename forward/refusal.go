package forward

import (
	"errors"
	"time"
)

// turnedAway counts a client that got nothing but why, if that.
func (f *Forwarder) turnedAway(client Stream, began time.Time, why error) {
	if !errors.Is(why, ErrStopping) {
		f.refusal.Store(&refusal{why, time.Now()})
	}
	f.stats.refused.Add(1) // then why is known
	f.clients.Warn().Stringer("client", client.RemoteAddr()).Stringer("waited", since(began)).Err(why).Msg("client turned away")
}

type refusal struct {
	why error
	at  time.Time
}

// LastRefusal is when a client was turned away the last time, other than for a
// stop, and why; nil: none was.
func (f *Forwarder) LastRefusal() (at time.Time, why error) {
	if r := f.refusal.Load(); r != nil {
		return r.at, r.why
	}
	return time.Time{}, nil
}
