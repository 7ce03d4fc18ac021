package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
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
	// maxLines is how many of them are logged a second, and maxBeside how many
	// of those that are beside the point: an ssh says 50 to 100 for each host.
	maxLines, maxBeside = 50, 500
)

// A Meaning is what a line that the command has said means for the tunnel.
type Meaning struct {
	// LetIn is that the host has let us in: the near ends are there in a moment.
	// Host is then where the command is connected to, as [ADDRESS]:PORT; empty:
	// it is a helper of its that is.
	LetIn bool
	Host  string
	// NearEnd is the near end that the command cannot listen on, as in
	// Config.NearEnds; empty: the line is not about one.
	NearEnd string
	// Why explains the failure if the command ends now; empty: this line has
	// nothing to add. Failure is then what it means for the next pause.
	Why     string
	Failure string
	// Useless is that the command will make no tunnel, though it may go on: it is
	// stopped, and has failed.
	Useless bool
	// Beside is that the line is only for who wants to know everything.
	Beside bool
}

// loggedIn is told once. Whoever says it again is not ssh. What was said before
// explains nothing any more.
func (l *launch) loggedIn(host string) {
	if !isClosed(l.letIn) {
		l.mu.Lock()
		l.last = words{}
		l.mu.Unlock()
		l.host, l.letInAt = host, time.Now()
		close(l.letIn)
	}
}

// An ear hears what one ssh says at its two places.
type ear struct {
	t           *Tunnel
	l           *launch
	log, beside zerolog.Logger
	stop        context.CancelCauseFunc

	mu      sync.Mutex // for one line at a time
	meaning func(line string, fromLog bool) Meaning
}

// listen logs what ssh says, line by line, until the end of both, and remembers
// what explains a failure. It calls stop if ssh says that it cannot listen on
// one of our near ends, and soon afterwards still nobody has been answered: if
// it is a forward of ssh_config's that cannot have the same port, because ours
// has it, all is well.
func (t *Tunnel) listen(l *launch, sshLog, stderr io.Reader, log zerolog.Logger, stop context.CancelCauseFunc) {
	dropped := 0
	e := ear{t: t, l: l, stop: stop}
	atMost := func(n uint32) zerolog.Logger {
		return log.Sample(&zerolog.BurstSampler{Burst: n, Period: time.Second, NextSampler: counter{&dropped}})
	}
	e.log, e.beside = atMost(maxLines), atMost(maxBeside)
	e.meaning = func(line string, _ bool) Meaning { return Meaning{Why: line} }
	if t.cfg.Listen != nil {
		e.meaning = t.cfg.Listen()
	}
	var both sync.WaitGroup
	both.Go(func() { readLines(sshLog, "\r\n", func(line string) { e.hear(line, true) }) })
	both.Go(func() { readLines(stderr, "\n", func(line string) { e.hear(line, false) }) })
	both.Wait()
	if dropped > 0 {
		log.Warn().Int("lines", dropped).Msg("ssh said more than is logged")
	}
}

// hear takes one line.
func (e *ear) hear(line string, fromLog bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	why, m := e.l.lastSince(e.l.began), e.meaning(line, fromLog)
	event := e.log.Info
	if m.Beside {
		event = e.beside.Debug
	}
	if fromLog {
		event().Str("ssh", line).Msg("ssh says")
	} else {
		event().Str("stderr", line).Msg("the host's banner, or a helper of ssh's, says")
	}
	if m.LetIn {
		e.l.loggedIn(m.Host)
	}
	if end := m.NearEnd; slices.Contains(e.t.cfg.NearEnds, end) {
		if why == "" || !strings.HasSuffix(line, end) {
			why = line // of a port, the line before says it
		}
		m.Why = "ssh cannot listen on " + end + ", its near end here: " + why
		if e.l.proof.Holder != nil {
			if who := e.l.proof.Holder(end); who != "" {
				m.Why += " (" + who + ")"
			}
		}
		e.soon(failure{why: errors.New(m.Why), kind: Unseen})
	}
	e.l.remember(m)
	if m.Useless {
		e.stop(failure{why: errors.New(m.Why), kind: m.Failure})
	}
}

// soon stops ssh because of err, unless somebody is answered until then. ssh
// would stay up all the same, for it is not told ExitOnForwardFailure: that would
// also end it when a forward of the user's own ssh_config fails.
func (e *ear) soon(err failure) {
	time.AfterFunc(nearEndTimeout, func() {
		if !isClosed(e.l.answered) {
			e.stop(err)
		}
	})
}

// counter is a sampler that lets nothing pass, and counts.
type counter struct{ n *int }

func (c counter) Sample(zerolog.Level) bool { *c.n++; return false }

// readLines calls f with each line of r until its end: control characters
// replaced, trimmed, cut at maxLine, none of them empty. With the end "\r\n" a
// single "\n" ends no line: ssh ends what it says itself with both, and may have
// foreign text in it.
func readLines(r io.Reader, end string, f func(string)) {
	br := bufio.NewReaderSize(r, maxLine)
	var line, tail []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxLine-len(line))]...)
		tail = append(tail[max(0, len(tail)-1):], part...) // "\r\n" may come in two parts
		full := errors.Is(err, bufio.ErrBufferFull)
		if bytes.HasSuffix(tail, []byte(end)) || err != nil && !full {
			if s := printable(line); s != "" {
				f(s)
			}
			line, tail = line[:0], tail[:0]
		}
		if err != nil && !full {
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

// words explain a failure.
type words struct {
	text, failure string
	at            time.Time
}

// remember keeps what explains a failure.
func (l *launch) remember(m Meaning) {
	if m.Why == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = words{strings.TrimSuffix(m.Why, "."), m.Failure, time.Now()}
}

// lastSince is what was remembered last, unless it is older than since.
func (l *launch) lastSince(since time.Time) string {
	w := l.wordsSince(since)
	return w.text
}

// wordsSince are the last words, or none if they are older than since.
func (l *launch) wordsSince(since time.Time) words {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.at.Before(since) {
		return words{}
	}
	return l.last
}
