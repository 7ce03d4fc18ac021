package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// plays counts what was played, so that with -count there is always more of it.
var plays atomic.Uint64

// TestWhateverBothSidesDoTheOtherSeesTheSame has many sessions at a time, in
// which each side sends, waits, reads or does not, and ends, as chance has it.
// What arrives, and how it ends, is compared with what was sent.
func TestWhateverBothSidesDoTheOtherSeesTheSame(t *testing.T) {
	for _, smtp := range []bool{false, true} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(fmt.Sprintf("smtp %v, near end %s", smtp, network), func(t *testing.T) {
				noLeaks(t)
				playMany(t, smtp, network)
			})
		}
	}
}

func playMany(t *testing.T, smtp bool, network string) {
	const players, times = 8, 7
	servers := make(chan held)
	end := answering(t, network, func(c Stream) {
		done := make(chan struct{})
		servers <- held{c, done}
		<-done
	})
	serve := serving
	if smtp {
		serve = servingSMTP
	}
	f := patient()
	f.MaxClients = players
	dialed := make(chan struct{}) // what is reset before that is no session
	r := serve(t, f, func(ctx context.Context) (Stream, error) {
		c, err := end.dial(ctx)
		dialed <- struct{}{}
		return c, err
	})
	var one sync.Mutex // who comes now gets the server that comes now
	var all sync.WaitGroup
	for range players {
		all.Go(func() {
			for range times {
				seed := plays.Add(1)
				one.Lock()
				client := call(t, r.addr)
				server := receive(t, "the server's side", servers)
				receive(t, "the dial's return", dialed)
				one.Unlock()
				s := newScript(seed, smtp, network)
				if err := s.play(client, server.Stream); err != nil {
					t.Errorf("%v\n%s", err, s)
				}
				client.Close()
				close(server.done)
			}
		})
	}
	all.Wait()
	until(t, "all places are free", func() bool { s := f.Stats(); return s.Working == 0 && s.Waiting == 0 })
}

// A held connection is closed when done is.
type held struct {
	Stream
	done chan struct{}
}

// The sides of a session.
const (
	ofClient = iota
	ofServer
)

// The ways in which a side ends.
const (
	shutsDown = iota
	shutsDownAndResets
	resets
	endsLater // when the other one has ended
)

// A part is what one side does.
type part struct {
	pieces [][]byte
	pauses []time.Duration
	slow   bool // begins to read late
	ending int
}

type script struct {
	seed    uint64
	smtp    bool
	network string
	sides   [2]part
}

func (s *script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, smtp %v, %s", s.seed, s.smtp, s.network)
	for i, p := range s.sides {
		fmt.Fprintf(&b, "\n%s: ending %d, slow %v, sends", []string{"client", "server"}[i], p.ending, p.slow)
		for j, piece := range p.pieces {
			fmt.Fprintf(&b, " %d", len(piece))
			if p.pauses[j] > 0 {
				fmt.Fprintf(&b, " (%s)", p.pauses[j])
			}
		}
	}
	return b.String()
}

func newScript(seed uint64, smtp bool, network string) *script {
	r := rounds(seed)
	s := &script{seed: seed, smtp: smtp, network: network}
	for side := range s.sides {
		p := &s.sides[side]
		p.slow = r.IntN(4) == 0
		p.ending = r.IntN(4)
		big := r.IntN(4) == 0
		most, sizes := 8, []int{1, 2, 30, 500, 5000}
		switch {
		case big && r.IntN(2) == 0:
			sizes = []int{100, 16383, 16384, 16385, 40000, 300000}
		case big: // more than a slow one's kernel keeps
			most, sizes = 900, []int{9000}
		}
		for i := range r.IntN(most) {
			size := sizes[r.IntN(len(sizes))]
			piece := noise(seed*31+uint64(side*17+i), size)
			if smtp && side == ofServer {
				piece = replyLine(r)
			}
			p.pieces = append(p.pieces, piece)
			var pause time.Duration
			if r.IntN(2) == 0 && most == 8 {
				pause = []time.Duration{0, 100 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 120 * time.Millisecond}[r.IntN(5)]
			}
			p.pauses = append(p.pauses, pause)
		}
	}
	if s.sides[ofServer].ending == endsLater && s.sides[ofClient].ending == endsLater {
		s.sides[r.IntN(2)].ending = shutsDown
	}
	return s
}

func replyLine(r *rand.Rand) []byte {
	return []byte([]string{"250 OK\r\n", "250-more\r\n", "2", "20 x\r", "354 go\r\n", "221 bye\r\n", "421 busy\r\n", "\n", "250 HELP\r\n", strings.Repeat("250-x\r\n", 3000)}[r.IntN(10)])
}

// A seen is what one side has got.
type seen struct {
	got []byte
	err error // nil: a clean end
}

func (s *script) play(client, server Stream) error {
	ends := [2]Stream{client, server}
	var saw [2]seen
	var over [2]chan struct{} // one for each reader
	var sent [2]bool          // everything, without an error
	var all sync.WaitGroup
	for side := range ends {
		over[side] = make(chan struct{})
		all.Go(func() {
			defer close(over[side])
			if s.sides[side].slow {
				_ = ends[side].(interface{ SetReadBuffer(int) error }).SetReadBuffer(256 << 10)
				time.Sleep(30 * time.Millisecond)
			}
			saw[side].got, saw[side].err = io.ReadAll(ends[side])
		})
		all.Go(func() { sent[side] = s.sides[side].act(ends[side], over[side]) })
	}
	all.Wait()
	for side := range ends {
		if err := s.check(side, &saw, sent); err != nil {
			return fmt.Errorf("%s saw %d bytes, %v; the other one %d bytes, %v: %w", []string{"the client", "the server"}[side],
				len(saw[side].got), saw[side].err, len(saw[1-side].got), saw[1-side].err, err)
		}
	}
	return nil
}

// act reports whether everything was sent and ended in an orderly way.
func (p *part) act(c Stream, over <-chan struct{}) bool {
	for i, piece := range p.pieces {
		time.Sleep(p.pauses[i])
		if _, err := c.Write(piece); err != nil {
			reset(c)
			return false
		}
	}
	switch p.ending {
	case resets:
		reset(c)
		return false
	case endsLater:
		<-over
	}
	err := c.CloseWrite()
	if p.ending == shutsDownAndResets {
		if len(p.pauses) > 0 {
			time.Sleep(p.pauses[0])
		}
		reset(c)
	}
	return err == nil
}

func (s *script) check(side int, saw *[2]seen, sent [2]bool) error {
	me, other := s.sides[side], s.sides[1-side]
	// What the kernel has not sent yet is lost with a reset: that is no fault of ours.
	const sentAtOnce = 50000
	if me.ending == resets || me.ending == shutsDownAndResets {
		return nil // it has not looked
	}
	whole := bytes.Join(other.pieces, nil)
	got, err := saw[side].got, saw[side].err
	if err != nil && !isReset(err) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("it hung: %w", err)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil // it has broken off itself
	}
	var told bool
	if s.smtp && side == ofClient {
		if i := bytes.LastIndex(got, []byte("421 ")); i >= 0 && bytes.Contains(got[i:], []byte(" minimail: ")) {
			got, told = got[:i], true
		}
	}
	if !bytes.HasPrefix(whole, got) {
		return errors.New("other bytes than were sent")
	}
	if s.smtp {
		return s.checkSMTP(side, got, whole, err, told, sent)
	}
	switch {
	case sent[1-side] && other.ending != shutsDownAndResets:
		if len(got) != len(whole) || err != nil {
			return fmt.Errorf("all of %d bytes was sent, and ended orderly", len(whole))
		}
	// A Unix socket knows no reset, and a reset is told once: sending may have met it.
	case other.ending == resets && err == nil && s.network == "tcp" && sent[side]:
		return errors.New("a reset became a clean end")
	case other.ending == shutsDownAndResets && sent[1-side] && len(whole) < sentAtOnce && len(got) != len(whole):
		return fmt.Errorf("of %d bytes sent before an orderly end some are lost", len(whole))
	}
	return nil
}

func (s *script) checkSMTP(side int, got, whole []byte, err error, told bool, sent [2]bool) error {
	if side == ofServer {
		// A server of SMTP that has ended has no use for more.
		if sent[ofClient] && s.sides[ofServer].ending == endsLater && s.sides[ofClient].ending != shutsDownAndResets && (err != nil || len(got) != len(whole)) {
			return errors.New("the client's bytes are lost")
		}
		return nil
	}
	clientFirst := s.sides[ofClient].ending != endsLater
	switch {
	case told && len(got) > 0 && !endsInReply(got):
		return errors.New("a 421 in the middle of a reply")
	case sent[ofServer] && s.sides[ofServer].ending == shutsDown && (len(got) != len(whole) || err != nil) && !clientFirst:
		return fmt.Errorf("all of %d bytes was sent, and ended orderly", len(whole))
	}
	return nil
}

// endsInReply reports whether the last line is the last one of a reply.
func endsInReply(said []byte) bool {
	lines := bytes.SplitAfter(said, []byte("\r\n"))
	if len(lines) < 2 || len(lines[len(lines)-1]) > 0 {
		return false
	}
	last := lines[len(lines)-2]
	return len(last) > 4 && last[3] != '-'
}
