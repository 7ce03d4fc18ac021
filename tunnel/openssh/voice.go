package openssh

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// A saying is a line, and what it means.
type saying struct {
	line               string
	means              Meaning
	at                 Stage
	host, address, end string // that it names
}

func parse(line string) saying {
	s := saying{line: strings.TrimRight(line, ".: ")}
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
	spoken     bool
	connecting bool     // a ProxyJump's ssh is
	opened     bool     // a channel was asked for
	reason     saying   // that has been given
	before     saying   // the reason before, which may be another ssh's
	details    []string // of the reason
	host       string   // that the details name
	aside      Meaning  // of a detail that turns the next reason; see turned
	last       string   // line that is not beside the point
	said       string   // the last of these that nobody knows: a banner's
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
	case s.means == Detail || turned[s.means] != nil:
		v.detail(s)
	case s.means == WayEnded && v.reason.means == HungUp && v.before.explains():
		v.reason = v.before // the ssh that it went by has said why
	case s.means == WayEnded && v.reason.explains() && v.reason.means != HungUp:
		// The same: since 10.0 only a verbose ssh says that it was hung up on.
	default:
		v.gives(s)
	}
	if s.means != LetIn {
		v.last = s.line
	}
	if s.means == "" {
		v.said = s.line
	}
}

func (v *voice) detail(s saying) {
	if turned[s.means] != nil {
		v.aside = s.means
	}
	v.details = append(v.details, s.line)
	if n := len(v.details); n > 3 {
		v.details = v.details[n-3:]
	}
	v.host = cmp.Or(s.host, v.host)
}

// turned is what a reason means after a detail.
var turned = map[Meaning]map[Meaning]Meaning{
	Partial:   {KeyRefused: MoreWanted, OtherWanted: MoreWanted},
	Revoked:   {HostKey: Revoked},
	Unchecked: {HostKey: Unchecked},
	NotSigned: {KeyRefused: NotSigned},
}

// gives takes s for the reason; an unknown line for none.
func (v *voice) gives(s saying) {
	if s.means == Leave {
		s.means = Closed // without a reason before
	}
	s.means = cmp.Or(turned[v.aside][s.means], s.means)
	s.host = cmp.Or(s.host, v.host)
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
	case NothingShared:
		return s.means == Leave
	case TooManyKeys, SentAway:
		return s.means == Leave
	}
	return false
}

// explains reports whether s is known, and bad.
func (s saying) explains() bool { return s.means != "" && s.means != LetIn }

// with is a reason with its details.
func (s saying) with(details []string) string {
	if len(details) == 0 {
		return s.line
	}
	return s.line + " (" + strings.Join(details, "; ") + ")"
}
