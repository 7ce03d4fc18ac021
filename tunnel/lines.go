package tunnel

import (
	"bufio"
	"context"
	"io"
	"regexp"
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
	readLines(r, func(line string) {
		sampled.Info().Str("ssh", line).Msg("ssh says")
		if chatter.MatchString(line) {
			return
		}
		why := l.lastSince(l.began)
		l.remember(line)
		if end := t.nearEndIn(line); end != "" {
			if why == "" || !strings.HasSuffix(line, end) {
				why = line // of a port, the line before says it
			}
			why = "ssh cannot listen on " + end + ", its near end here: " + why
			l.remember(why) // in place of ssh's next lines, which say less
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

// chatter is what ssh says when all is well, or after it has given a reason. The
// last two are said at every end at LogLevel=VERBOSE.
var chatter = regexp.MustCompile(`^(Authenticated to |Warning: Permanently added |debug\d: |Could not request local forwarding|Transferred: |Bytes per second: )`)

// cannotListen finds the near end in OpenSSH's complaints (channels.c, misc.c).
var cannotListen = regexp.MustCompile(`(?:cannot listen to port: |cannot bind to path )(.+?)(?::|$)`)

// nearEndIn returns the near end that line says ssh cannot listen on, or "".
func (t *Tunnel) nearEndIn(line string) string {
	m := cannotListen.FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	for _, end := range t.cfg.NearEnds {
		if m[1] == end {
			return end
		}
	}
	return ""
}
