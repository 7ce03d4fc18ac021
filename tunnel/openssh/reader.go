package openssh

import (
	"regexp"
	"slices"
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
}

// A Verdict is what is known of a launch, for a person.
type Verdict struct {
	Means Meaning
	At    Stage  // where ssh says so
	Line  string // of ssh's, that says so
	Host  string // that the line names, as ssh knows it; may be empty
	// OnTheWay is that a ProxyJump's ssh says so, not the one that was launched.
	OnTheWay bool
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
// known to be another ssh, and has ended; then its last words count.
type Reader struct {
	jumps func() bool

	mu         sync.Mutex
	own, other voice
	in         bool
}

// NewReader returns the reader of one launch. jumps reports whether another ssh
// is the way to the host; it must return at once.
func NewReader(jumps func() bool) *Reader { return &Reader{jumps: jumps} }

// Read takes a line, from ssh's log or from its standard error.
func (r *Reader) Read(line string, fromLog bool) Heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, v := parse(line), &r.other
	if r.in && s.at != Session && s.means != Chatter {
		s = saying{line: s.line} // ssh says such a thing no more
	}
	if fromLog {
		v = &r.own
	}
	v.hear(s)
	if s.means == Chatter {
		return Heard{}
	}
	var h Heard
	if fromLog {
		h.NearEnd = s.end
		if s.means == LetIn && !r.in {
			h.LetIn, h.Host, r.in = true, s.address, true
			r.own, r.other = voice{spoken: true}, voice{} // what was said before explains nothing from now on
		}
	}
	h.Why, h.Failure = r.why()
	return h
}

// Verdict is what is known up to now.
func (r *Reader) Verdict() Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, onTheWay := r.decisive()
	return Verdict{s.means, s.at, s.line, s.host, onTheWay}
}

// decisive is the line that says why ssh ends, if it ends now.
func (r *Reader) decisive() (s saying, onTheWay bool) {
	switch {
	case !r.own.spoken && !r.in:
		return r.other.reason, false
	case r.own.reason.means == WayEnded && r.jumps() && r.other.reason.means != "":
		s = r.other.reason
		if m, ok := ofAJump[s.means]; ok {
			s.means = m
		}
		return s, true
	}
	return r.own.reason, false
}

// ofAJump is what a line means that a jump host's ssh says.
var ofAJump = map[Meaning]Meaning{
	Closed:     ClosedAnyTime, // since 10.0 only a verbose ssh tells when, and that one is not
	Forbidden:  JumpForbids,
	FarRefused: JumpBlocked,
}

// why is what a failure would be, and the words for it.
func (r *Reader) why() (words, failure string) {
	s, onTheWay := r.decisive()
	failure = meanings[s.means].failure
	switch {
	case r.in:
		return orElse(r.own.last, r.other.last), Unseen
	case onTheWay:
		return "on the way to the host: " + r.other.why(), failure
	case s.means == "":
		return orElse(r.own.last, r.other.last), failure
	case !r.own.spoken:
		return r.other.why(), failure
	case s.means == WayEnded && r.other.last != "":
		return "the way to the host has ended: " + r.other.last, failure
	case s.means == Closed || s.means == SentAway || s.means == Silent || s.means == WaySilent:
		return r.own.why() + lastWords(r.other.last), failure
	}
	return r.own.why(), failure
}

// lastWords are those of the host's banner: PAM says there why it refuses.
func lastWords(line string) string {
	if line == "" {
		return ""
	}
	return ", after it had said: " + line
}

// A saying is a line, and what it means.
type saying struct {
	line               string
	means              Meaning
	at                 Stage
	host, address, end string // that it names
}

func parse(line string) saying {
	s := saying{line: strings.TrimSuffix(line, ".")}
	for i, p := range patterns() {
		m := p.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s.means, s.at = forms[i].means, forms[i].at
		s.host, s.end = part(p, m, "host"), part(p, m, "end")
		if a := part(p, m, "address"); a != "" {
			s.address = "[" + a + "]:" + part(p, m, "port")
		}
		if s.means == KeyRefused && !takesKeys(part(p, m, "methods")) {
			s.means = OtherWanted
		}
		break
	}
	return s
}

// part is what stands for a blank, or "".
func part(p *regexp.Regexp, match []string, blank string) string {
	if i := p.SubexpIndex(blank); i >= 0 {
		return match[i]
	}
	return ""
}

func takesKeys(methods string) bool {
	return slices.ContainsFunc(strings.Split(methods, ","), func(m string) bool {
		return m == "publickey" || m == "hostbased" || strings.HasPrefix(m, "gssapi")
	})
}

// A voice is who speaks at one of the places.
type voice struct {
	spoken  bool
	reason  saying   // that has been given
	before  saying   // the reason before, which may be another ssh's
	details []string // of the reason
	host    string   // that the details name
	partial bool
	last    string // line that is not beside the point
}

// hear takes the next line. What counts is the last that gives a reason.
func (v *voice) hear(s saying) {
	v.spoken = true
	switch {
	case s.means == Chatter || v.follows(s):
		return
	case s.means == WaySilent && v.reason.means == Silent:
		v.reason.means = WaySilent // it is not known who is
		return
	case s.means == Detail || s.means == Partial:
		v.detail(s)
	case s.means == WayEnded && v.reason.means == HungUp && v.before.means != "":
		v.reason = v.before // the ssh that it went by has said why
	case s.means == WayEnded && v.reason.means != "" && v.reason.means != HungUp:
		// The same: since 10.0 only a verbose ssh says that it was hung up on.
	default:
		v.gives(s)
	}
	v.last = s.line
}

func (v *voice) detail(s saying) {
	v.partial = v.partial || s.means == Partial
	v.details = append(v.details, s.line)
	if n := len(v.details); n > 3 {
		v.details = v.details[n-3:]
	}
	v.host = orElse(s.host, v.host)
}

// gives takes s for the reason; an unknown line for none.
func (v *voice) gives(s saying) {
	switch {
	case v.partial && (s.means == KeyRefused || s.means == OtherWanted):
		s.means = MoreWanted
	case s.means == Leave:
		s.means = Closed // without a reason before
	}
	s.host = orElse(s.host, v.host)
	v.before, v.reason = v.reason, s
}

// follows reports whether s only takes leave after the reason.
func (v *voice) follows(s saying) bool {
	switch v.reason.means {
	case HungUp:
		return s.means == Closed
	case Silent:
		return s.means == TimedOut
	case NotSSH:
		return s.means == Leave || s.means == NotSSH
	case TooManyKeys, SentAway:
		return s.means == Leave
	}
	return false
}

// why is the reason with its details.
func (v *voice) why() string {
	if len(v.details) == 0 {
		return v.reason.line
	}
	return v.reason.line + " (" + strings.Join(v.details, "; ") + ")"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
