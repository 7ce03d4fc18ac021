package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"
)

const (
	// maxLine is how much of a line of ssh's is kept, in bytes.
	maxLine = 1024
	// nearEndTimeout is how long a near end that ssh complains about may take
	// to answer all the same. Clients try at least every 50 ms.
	nearEndTimeout = 500 * time.Millisecond
	// maxLines is how many of them are logged a second.
	maxLines = 50
)

// A forwardError is ssh's complaint that it cannot listen on a near end. It
// would stay up all the same, for we do not pass ExitOnForwardFailure: that
// would also end it when a forward of the user's own ssh_config fails.
type forwardError string

func (e forwardError) Error() string { return string(e) }

// A Meaning is what a line that the command has said means for the tunnel.
type Meaning struct {
	// LetIn is that the host has let us in: the near ends are there in a moment.
	// Host is then where the command is connected to, as [ADDRESS]:PORT; empty:
	// it is a helper of its that is.
	LetIn bool
	Host  string
	// Chatter explains no failure.
	Chatter bool
	// Rejects is that the host turns us away in a way that no waiting mends.
	Rejects bool
	// NearEnd is the near end that the command cannot listen on, as in
	// Config.NearEnds; empty: the line is not about one.
	NearEnd string
}

// loggedIn is told once. Whoever says it again is not ssh.
func (l *launch) loggedIn(host string) {
	if !isClosed(l.letIn) {
		l.host, l.letInAt = host, time.Now()
		close(l.letIn)
	}
}

// A rejection is a line with such a meaning.
type rejection string

func (r rejection) Error() string { return string(r) }

// listen logs what ssh says, line by line, until the end of r, and remembers
// the last line that may explain a failure. It calls stop if ssh says that it
// cannot listen on one of our near ends, and soon afterwards still nobody has
// been answered: if it is a forward of ssh_config's that cannot have the same
// port, because ours has it, all is well.
func (t *Tunnel) listen(l *launch, r io.Reader, log zerolog.Logger, stop context.CancelCauseFunc) {
	dropped := 0
	sampled := log.Sample(&zerolog.BurstSampler{
		Burst: maxLines, Period: time.Second,
		NextSampler: counter{&dropped},
	})
	meaning := func(string) Meaning { return Meaning{} }
	if t.cfg.Listen != nil {
		meaning = t.cfg.Listen()
	}
	readLines(r, func(line string) {
		sampled.Info().Str("ssh", line).Msg("ssh says")
		m := meaning(line)
		if m.LetIn {
			l.loggedIn(m.Host)
		}
		if m.Chatter {
			return
		}
		why := l.lastSince(l.began)
		l.remember(line, m)
		if end := m.NearEnd; t.isNearEnd(end) {
			if why == "" || !strings.HasSuffix(line, end) {
				why = line // of a port, the line before says it
			}
			why = "ssh cannot listen on " + end + ", its near end here: " + why
			if l.proof.Holder != nil {
				if who := l.proof.Holder(end); who != "" {
					why += " (" + who + ")"
				}
			}
			l.remember(why, m) // in place of ssh's next lines, which say less
			time.AfterFunc(nearEndTimeout, func() {
				if !isClosed(l.answered) {
					stop(forwardError(why))
				}
			})
		}
	})
	if dropped > 0 {
		log.Warn().Int("lines", dropped).Msg("ssh said more than is logged")
	}
}

// counter is a sampler that lets nothing pass, and counts.
type counter struct{ n *int }

func (c counter) Sample(zerolog.Level) bool { *c.n++; return false }

// readLines calls f with each line of r until its end: control characters
// replaced, trimmed, cut at maxLine, none of them empty.
func readLines(r io.Reader, f func(string)) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, more, err := br.ReadLine()
		if s := printable(line); s != "" {
			f(s)
		}
		for more && err == nil {
			_, more, err = br.ReadLine() // the rest of a long line
		}
		if err != nil {
			return
		}
	}
}

func printable(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(line), "?")))
}

// isNearEnd tells whether end is one of ours.
func (t *Tunnel) isNearEnd(end string) bool {
	return end != "" && slices.Contains(t.cfg.NearEnds, end)
}

// words are a line of ssh's.
type words struct {
	text    string
	at      time.Time
	rejects bool
}

// remember keeps the last line, unless it only takes leave after the host has
// rejected us: "Disconnected from", or the end of a ProxyJump's connection.
func (l *launch) remember(line string, m Meaning) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.rejects && !m.Rejects && !isClosed(l.answered) {
		return
	}
	l.last = words{strings.TrimSuffix(line, "."), time.Now(), m.Rejects}
}

// lastSince is the remembered line, unless it is older than since.
func (l *launch) lastSince(since time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.at.Before(since) {
		return ""
	}
	return l.last.text
}

// whySince is the remembered line as an error; nil: there is none.
func (l *launch) whySince(since time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.last.at.Before(since):
		return nil
	case l.last.rejects:
		return rejection(l.last.text)
	}
	return errors.New(l.last.text)
}
