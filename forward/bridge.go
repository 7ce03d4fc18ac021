package forward

import (
	"fmt"
	"net"
	"syscall"
	"time"
)

// serve copies until both directions are done and both sides are closed; no
// byte that a side has sent before it ended is lost to the other.
//
// A client costs little more than the two goroutines that wait here, so these
// have next to nothing on their stacks: what comes after is for others.
func (v *visit) serve() {
	go v.clientToServer() // ends at the latest when both connections are closed
	v.serverHasEnded(v.down.copy())
}

func (v *visit) clientToServer() {
	v.clientHasEnded(v.up.copy())
	close(v.ended)
	v.tidy()
}

// clientHasEnded passes the end of its direction on as what it was: an orderly
// one closes the server's receiving side, a reset resets it. If it is the server
// that is dead, the other direction will see that too, once it has delivered
// what the server sent while it lived.
func (v *visit) clientHasEnded(err error) {
	switch {
	case err == nil && !broken(v.client, v.up.n):
		v.concluded(clientClosed)
		if v.talk != nil {
			v.talk.clientEnds()
		}
		_ = v.up.to.CloseWrite()
	case err == nil || dead(v.client):
		v.concluded("client reset")
		reset(v.server)
	}
}

// serverHasEnded passes the end of the other direction on, and is the end of
// the visit.
func (v *visit) serverHasEnded(err error) {
	if err == nil && broken(v.down.from, v.down.n) {
		err = syscall.ECONNRESET
	}
	why := v.whyEnded(err)
	if v.talk != nil {
		// The server is gone for good: wake the other direction.
		v.server.Close()
		_ = v.client.SetReadDeadline(time.Unix(1, 0))
		<-v.ended
		v.takeLeave(why)
	} else {
		switch {
		case err != nil && dead(v.client): // it may have said something before
		case err != nil || why != errLost:
			reset(v.client)
		default:
			_ = v.client.CloseWrite()
		}
		<-v.ended
	}
	close(v.gone)
	v.client.Close()
	v.server.Close()
	v.over()
}

// whyEnded returns why there is no server any more: errLost, and more if more is
// known. err is what the other direction has ended with.
func (v *visit) whyEnded(err error) error {
	if cut := v.cutBecause(); cut != nil {
		return cut
	}
	lost := v.lost()
	switch {
	case err != nil && dead(v.client):
		v.concluded("client reset")
	case lost != nil:
		v.overruled(tunnelLost) // also if the client has said all
		return fmt.Errorf("%w: %w", errLost, lost)
	case err != nil:
		v.concluded("server reset")
	default:
		v.concluded(serverClosed)
	}
	return errLost
}

// takeLeave ends the client's side of a mail session: with the reason, where
// that is what the client is told, or else without a word. The end is an orderly
// one: a reset could take back what the server has said.
func (v *visit) takeLeave(why error) {
	if v.down.stuck || !v.talk.mayTell() {
		why = nil
	}
	farewell(v.client, why)
}

// settle is how long what ends together may take to do so, where nobody tells
// whether it does: a tunnel and its connections.
const settle = 100 * time.Millisecond

// tidy ends the visit of a client that has closed its socket: nobody will read
// what a server still has to say. The server gets some time to finish. A
// client that has only shut down its sending side is left alone.
func (v *visit) tidy() {
	gone := v.f.Gone
	if gone == nil {
		return
	}
	if untilGone(v.client, gone, v.gone) {
		v.cutAfter(v.f.DrainTimeout, nil) // the server may finish, too
	}
}

// untilGone returns true when gone is, and false when stop is closed. It asks
// often at first, and later once a second.
func untilGone(client net.Conn, gone func(net.Conn) bool, stop <-chan struct{}) bool {
	for pause := time.Millisecond; ; pause = min(4*pause, time.Second) {
		select {
		case <-stop:
			return false
		case <-time.After(pause):
		}
		if gone(client) {
			return true
		}
	}
}

// cutAfter ends the visit after d, if it has not ended by then. A client of
// SMTP is told why, if it can be.
func (v *visit) cutAfter(d time.Duration, why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cut != nil {
		return
	}
	v.cut = time.AfterFunc(d, func() { v.cutOff(why) })
}

func (v *visit) cutOff(why error) {
	v.concluded("cut off")
	v.mu.Lock()
	v.why = why
	v.mu.Unlock()
	if v.talk != nil && why != nil {
		_ = v.client.SetWriteDeadline(time.Now().Add(lingering))
		v.server.Close() // copy does the rest
		return
	}
	reset(v.client) // what is cut off must not look finished
	reset(v.server)
}

// cutBecause is why the visit was cut off, if it was.
func (v *visit) cutBecause() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.why
}
