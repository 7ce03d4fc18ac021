package openssh

import (
	"cmp"
	"strings"
	"sync"
)

// A Heard is what one launch's words mean up to now. It has the fields of
// tunnel.Meaning.
type Heard struct {
	// LetIn is that this line says that the host has let ssh in; Host is then
	// where it is connected to, as [ADDRESS]:PORT, or empty: a helper is.
	LetIn bool
	Host  string
	// NearEnd is the near end that this line says ssh cannot listen on.
	NearEnd string
	// Why explains a failure, if ssh ends now; empty: nothing does.
	Why string
	// Failure is what that means for the next pause.
	Failure string
	// Useless is that ssh will make no tunnel, though it may go on.
	Useless bool
	// Beside is that ssh says this line only because we want to know which hop
	// fails (see Client.Argv).
	Beside bool
}

// A Verdict is what is known of a launch, for a person.
type Verdict struct {
	Means Meaning
	Line  string // of ssh's, that says so
	Host  string // that the line names, as ssh knows it; may be empty
	// OnTheWay is that the ssh of a jump host says so, not the one that was
	// launched. Hop is then that one, as ssh has made it of ProxyJump; zero: the
	// way is a ProxyCommand.
	OnTheWay bool
	Hop      Command
}

// A Reader reads what one launch of ssh says. All of its methods may be called
// at any time.
//
// Words count by where they come from. What ssh itself says goes to its log,
// which is its standard output (see Argv). Its standard error has what others
// say through it: the host's banner, a ProxyCommand, a ProxyJump's ssh. That
// is shown, and decides nothing but in two cases. The first: ssh has written
// nothing to its log, as it ends before it has opened that (a bad -o), or is a
// program of the user's that does without. The second: the way to the host is
// known to be another ssh, and has ended before the host has said that it speaks
// ssh; then its words count that it has said since a host let it in.
type Reader struct {
	jumps func() bool
	aloud bool // ssh was given -v by us

	mu         sync.Mutex
	own, other voice
	in         bool
	useless    bool
	deaf       bool     // a host has said why it sends us away: its words may look like ssh's
	known      bool     // who the host is, if ssh is verbose
	doubted    bool     // somebody has said more before that, and his words may be what follows
	jump       string   // command line of the last jump host's ssh; empty: it is not known
	before     []string // and of those that it goes by, from the last to the first
	passed     int      // jump hosts that have let their ssh in
}

// NewReader returns the reader of one launch. jumps reports whether another ssh
// is the way to the host; it must return at once.
func NewReader(jumps func() bool) *Reader { return &Reader{jumps: jumps} }

// NewReader returns the reader of a launch of c.
func (c *Client) NewReader() *Reader {
	r := NewReader(c.Jumps)
	r.aloud = c.aloud()
	return r
}

// Read takes a line, from ssh's log or from its standard error.
func (r *Reader) Read(line string, fromLog bool) Heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	line = bare(line)
	s, v := parse(line), &r.other
	if r.useless {
		return Heard{}
	}
	if fromLog {
		v = &r.own
		if r.deaf && s.means != Leave {
			return Heard{}
		}
		if r.doubted {
			s = saying{line: s.line}
		}
		r.deaf = r.deaf || s.means == SentAway || s.means == TooManyKeys
		r.doubted = r.doubted || !r.known && strings.HasPrefix(line, remote)
		r.known = r.known || line == newKeys
	}
	r.hop(s, fromLog)
	if r.in && s.at != Session && s.means != Chatter {
		s = saying{line: s.line} // ssh says such a thing no more
	}
	v.hear(s)
	if s.means == Chatter {
		return Heard{Beside: r.aloud && s.at == Settings}
	}
	var h Heard
	if fromLog {
		if h.NearEnd = s.end; v.opened {
			h.NearEnd = "" // that was long ago: it is in the host's words about a channel
		}
		v.opened = v.opened || s.means == FarRefused || s.means == Forbidden
		if s.means == LetIn && !r.in {
			h.LetIn, h.Host, r.in = true, s.address, true
			r.own, r.other = voice{}, voice{} // what was said before explains nothing from now on
		}
	}
	r.useless = fromLog && s.means == HostKey
	h.Useless = r.useless
	h.Why, h.Failure = r.why()
	return h
}

// hop follows a ProxyJump, whose ssh says as much as its own at -v: which others
// it goes by, before any of them connects, and when their hosts let them in.
func (r *Reader) hop(s saying, fromLog bool) {
	command, ok := strings.CutPrefix(s.line, implicit)
	switch {
	case ok && fromLog:
		r.jump = command
	case ok && !r.other.connecting:
		r.before = append(r.before, command)
	case fromLog:
	case strings.HasPrefix(s.line, connecting):
		r.other.connecting = true
	case s.means == LetIn:
		r.passed++
		r.other = voice{connecting: true} // what was said before may be its banner
	}
}

// Verdict is what is known up to now.
func (r *Reader) Verdict() Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, onTheWay := r.decisive()
	v := Verdict{Means: s.means, Line: s.line, Host: s.host, OnTheWay: onTheWay}
	if all := append([]string{r.jump}, r.before...); onTheWay && r.jump != "" {
		at := r.passed // as many hosts have been passed, and if one of them speaks, it is the last
		if s.at == Session && at > 0 {
			at--
		}
		v.Hop = ParseCommand(all[max(0, len(all)-1-at)])
	}
	return v
}

// decisive is the line that says why ssh ends, if it ends now.
func (r *Reader) decisive() (s saying, onTheWay bool) {
	s = r.own.reason
	open := r.jump != "" && r.passed > len(r.before)
	switch told := r.other.reason; {
	case r.in && s.means == "" && told.means == LinkLost: // client_loop (clientloop.c) says it past the log
		return told, false
	case !r.own.spoken && !r.in:
		return told, false
	case s.means != WayEnded && s.means != WaySilent:
		return s, false
	case s.means == WayEnded && !r.own.spokenTo() && (r.jump != "" || r.jumps()) && told.explains():
		if r.jump != "" && r.passed > 0 {
			told = r.other.byOpenWay()
		}
		return ofAJump(told, r.jump != ""), true
	case open:
		return r.own.byOpenWay(), false
	}
	return s, r.jump != ""
}

// spokenTo reports whether the host has said that it speaks ssh.
func (v *voice) spokenTo() bool { return v.reason.at != Banner && v.before.means != HungUp }

// byOpenWay is the reason, if the hosts on the way have done their part: then the
// end of the way is what the host does.
func (v *voice) byOpenWay() saying {
	s := v.reason
	switch {
	case s.means == WayEnded && v.spokenTo():
		s.means = Closed
	case s.means == WayEnded && v.before.means == HungUp:
		return v.before
	case s.means == WayEnded:
		s.means = HungUp
	case s.means == WaySilent && s.at == Banner:
		s.means = Silent
	case s.means == WaySilent:
		s.means = TimedOut
	}
	return s
}

// ofAJump is what a line means that a jump host's ssh says. One that is not
// verbose does not tell whether the host has taken the key, and wants more, nor
// since 10.0 when a connection was closed.
func ofAJump(s saying, aloud bool) saying {
	switch {
	case s.means == Forbidden:
		s.means = JumpForbids
	case s.means == FarRefused:
		s.means = JumpBlocked
	case s.means == Closed && !aloud:
		s.means = ClosedAnyTime
	case (s.means == KeyRefused || s.means == OtherWanted) && !aloud:
		s.means = JumpRefused
	}
	return s
}

// why is what a failure would be, and the words for it.
func (r *Reader) why() (words, failure string) {
	s, onTheWay := r.decisive()
	failure = meanings[s.means].failure
	words = cmp.Or(r.own.last, r.other.last)
	switch {
	case r.in:
		return words, Unseen
	case onTheWay && s.means != WayEnded && s.means != WaySilent:
		return "on the way to the host: " + s.with(r.other.details) + afterWords(s.means, r.other.said), failure
	case s.means == "":
		return words, failure
	case !r.own.spoken:
		return s.with(r.other.details), failure
	case s.means == WayEnded && r.other.last != "":
		return "the way to the host has ended: " + r.other.last, failure
	}
	words = s.with(r.own.details) + afterWords(s.means, r.other.said)
	if onTheWay {
		words = "on the way to the host: " + words
	}
	return words, failure
}

// afterWords are those of the host's banner, if s is an end that it may explain:
// PAM says there why it refuses.
func afterWords(m Meaning, line string) string {
	switch m {
	case Closed, ClosedAnyTime, SentAway, Silent, WaySilent, TimedOut:
		if line != "" {
			return ", after it had said: " + line
		}
	}
	return ""
}
