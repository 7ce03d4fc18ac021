package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

func TestLinesAreCleanedAndCut(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n\r\n \t \n\x00\n", nil},
		{"a\nb\r\nc", []string{"a", "b", "c"}},
		{"  a b  \r\n", []string{"a b"}},
		{"red \x1b[31malert\x1b[0m\a\n", []string{"red  [31malert [0m"}},
		{"over\rwritten\n", []string{"over written"}},
		{"right\u202eleft\u00a0\n", []string{"right left"}},
		{"gr\u00fc\u00dfe \U0001f4e7\n", []string{"gr\u00fc\u00dfe \U0001f4e7"}},
		{"not \xff\xfe utf-8\n", []string{"not ? utf-8"}},
		{long + "y\nz\n", []string{long, "z"}},
		{strings.Repeat("x", 10*maxLine+3) + "\nz\n", []string{long, "z"}},
		{strings.Repeat("x", 10*maxLine+3), []string{long}},
		{strings.Repeat(" ", maxLine) + "beyond\nz\n", []string{"z"}},
	} {
		for name, r := range map[string]io.Reader{
			"at once":           strings.NewReader(test.in),
			"byte by byte":      iotest.OneByteReader(strings.NewReader(test.in)),
			"up to a time-out":  io.MultiReader(strings.NewReader(test.in), iotest.ErrReader(errors.New("i/o timeout"))),
			"data with the end": iotest.DataErrReader(strings.NewReader(test.in)),
		} {
			var got []string
			readLines(r, "\n", func(line string) { got = append(got, line) })
			if !slices.Equal(got, test.want) {
				t.Errorf("%.40q %s: got %.60q, want %.60q", test.in, name, got, test.want)
			}
		}
	}
}

func TestWhatEndsWithoutACarriageReturnIsNoLineOfTheLog(t *testing.T) {
	for in, want := range map[string][]string{
		"a\r\nb\r\n":             {"a", "b"},
		"said:\nforged\r\nb\r\n": {"said: forged", "b"},
		"a\nb":                   {"a b"},
		"\n\n\r\n":               nil,
		strings.Repeat("x", maxLine-1) + "\r\nb\r\n":       {strings.Repeat("x", maxLine-1), "b"},
		strings.Repeat("x", 3*maxLine-1) + "\r\nb\r\n":     {strings.Repeat("x", maxLine), "b"},
		strings.Repeat("x\n", 3*maxLine) + "\r\nb\r\n":     {strings.TrimSpace(strings.Repeat("x ", maxLine/2)), "b"},
		strings.Repeat("x", 2*maxLine-1) + "\r" + "y\r\nb": {strings.Repeat("x", maxLine), "b"},
	} {
		for name, r := range map[string]io.Reader{
			"at once":      strings.NewReader(in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
		} {
			var got []string
			readLines(r, "\r\n", func(line string) { got = append(got, line) })
			if !slices.Equal(got, want) {
				t.Errorf("%.40q %s: got %.60q, want %.60q", in, name, got, want)
			}
		}
	}
}

func TestTheLogAndTheRestAreHeardApart(t *testing.T) {
	var heard []string
	tunnel := New(Config{Listen: func() func(string, bool) Meaning {
		return func(line string, fromLog bool) Meaning {
			heard = append(heard, fmt.Sprint(line, " ", fromLog))
			return Meaning{}
		}
	}})
	l, log := newLaunch(Command{}), new(strings.Builder)
	tunnel.listen(l, strings.NewReader("own\r\n"), strings.NewReader("foreign\n"), zerolog.New(log), nil)
	logged := slices.Sorted(strings.Lines(log.String()))
	slices.Sort(heard)
	if want := []string{"foreign false", "own true"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
	if want := []string{
		`{"level":"info","ssh":"own","message":"ssh says"}` + "\n",
		`{"level":"info","stderr":"foreign","message":"the host's banner, or a helper of ssh's, says"}` + "\n",
	}; !slices.Equal(logged, want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
}

func TestWhatIsBesideThePointIsLoggedForWhoWantsToKnowAll(t *testing.T) {
	for level, want := range map[zerolog.Level]int{zerolog.InfoLevel: 2, zerolog.DebugLevel: 4} {
		log := new(strings.Builder)
		cfg := Config{Listen: func() func(string, bool) Meaning {
			return func(line string, _ bool) Meaning { return Meaning{Beside: line == "beside"} }
		}}
		said := "a line\r\nbeside\r\n"
		New(cfg).listen(newLaunch(Command{}), strings.NewReader(said), strings.NewReader(said), zerolog.New(log).Level(level), nil)
		if n := strings.Count(log.String(), "\n"); n != want {
			t.Errorf("at %s there are %d lines, want %d: %s", level, n, want, log)
		}
	}
}

func TestChatterExplainsNoFailure(t *testing.T) {
	l := newLaunch(Command{})
	lines := []string{"Timeout, server far not responding.",
		"debug1: client_input_global_request",
		"Authenticated to far ([192.0.2.1]:22) using \"publickey\".",
		"Warning: Permanently added 'far' (ED25519) to the list of known hosts.",
		"Transferred: sent 2440, received 2892 bytes, in 0.2 seconds",
		"Bytes per second: sent 10.0, received 12.0",
	}
	log := new(strings.Builder)
	New(Config{Listen: hear}).listen(l, strings.NewReader(strings.Join(lines, "\r\n")), strings.NewReader(""), zerolog.New(log), nil)
	if got := l.lastSince(l.began); got != "Timeout, server far not responding" {
		t.Errorf("remembered %q", got)
	}
	if n := strings.Count(log.String(), "ssh says"); n != len(lines) {
		t.Errorf("%d of %d lines are in the log: %s", n, len(lines), log)
	}
}

func TestWhoSaysAgainThatTheHostHasLetItInIsNotHeard(t *testing.T) {
	l := newLaunch(Command{})
	said := "first\r\nlet in: A\r\nlet in: B\r\n"
	New(Config{Listen: func() func(string, bool) Meaning {
		return func(line string, _ bool) Meaning {
			host, in := strings.CutPrefix(line, "let in: ")
			return Meaning{LetIn: in, Host: host}
		}
	}}).listen(l, strings.NewReader(said), strings.NewReader(""), zerolog.Nop(), nil)
	if !isClosed(l.letIn) || l.host != "A" {
		t.Errorf("let in: %t, to %q", isClosed(l.letIn), l.host)
	}
}

func TestALineOlderThanTheClientIsNoExplanation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLaunch(Command{})
		if got := l.lastSince(l.began); got != "" {
			t.Errorf("before any line: %q", got)
		}
		time.Sleep(time.Second)
		l.remember(Meaning{Why: "now"})
		if got := l.lastSince(time.Now()); got != "now" {
			t.Errorf("at that time: %q", got)
		}
		if got := l.lastSince(time.Now().Add(1)); got != "" {
			t.Errorf("after it: %q", got)
		}
	})
}

func TestANearEndThatCannotBeHadStopsTheLaunchUnlessSomebodyIsAnswered(t *testing.T) {
	const words = "bind [127.0.0.1]:1025: Address already in use\r\nchannel_setup_fwd_listener_tcpip: cannot listen to port: 1025\r\n"
	for _, test := range []struct {
		name, words string
		answered    time.Duration
		want        time.Duration // until the stop; 0: none
	}{
		{"nobody is answered", words, never, nearEndTimeout},
		{"somebody is just too late", words, nearEndTimeout + 1, nearEndTimeout},
		{"somebody is answered soon", words, nearEndTimeout - 1, 0},
		{"a forward of the user's own", strings.ReplaceAll(words, "1025", "80"), never, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLaunch(Command{})
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				New(Config{NearEnds: []string{"1025"}, Listen: hear}).listen(l, strings.NewReader(test.words), strings.NewReader(""), zerolog.Nop(), stop)
				time.AfterFunc(test.answered, func() { close(l.answered) })
				began := time.Now()
				select {
				case <-ctx.Done():
				case <-time.After(never + 1):
				}
				switch d := time.Since(began); {
				case test.want == 0 && d <= never:
					t.Errorf("stopped after %s because of %v", d, context.Cause(ctx))
				case test.want != 0 && (d != test.want || !errors.As(context.Cause(ctx), new(failure))):
					t.Errorf("stopped after %s because of %v, want after %s", d, context.Cause(ctx), test.want)
				}
				time.Sleep(never)
				synctest.Wait()
			})
		})
	}
}

// TestTheReasonOfANearEndThatCannotBeHadIsTheLineThatTells: of a port it is the one
// before, if there is one; of a socket it is the complaint itself.
func TestTheReasonOfANearEndThatCannotBeHadIsTheLineThatTells(t *testing.T) {
	for said, want := range map[string]string{
		"bind: in use\ncannot listen to port: 1025": "1025, its near end here: bind: in use",
		"cannot listen to port: 1025":               "1025, its near end here: cannot listen to port: 1025",
		"something else\n/sock cannot be bound":     "/sock, its near end here: /sock cannot be bound",
	} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			listen := func() func(string, bool) Meaning {
				return func(line string, _ bool) Meaning {
					for _, end := range []string{"1025", "/sock"} {
						if strings.Contains(line, end) {
							return Meaning{NearEnd: end}
						}
					}
					return Meaning{Why: line}
				}
			}
			New(Config{NearEnds: []string{"1025", "/sock"}, Listen: listen}).listen(l, strings.NewReader(""), strings.NewReader(said), zerolog.Nop(), stop)
			<-ctx.Done()
			if got := context.Cause(ctx).Error(); got != "ssh cannot listen on "+want {
				t.Errorf("%q: %q", said, got)
			}
		})
	}
}

func FuzzWhateverSSHSaysLinesAreFitForALogAndAClient(f *testing.F) {
	for _, seed := range []string{"", "\n", "a\r\nb", "\x1b[2J\x00\xff\u202e",
		strings.Repeat("\u00e9", maxLine), strings.Repeat("\xff\n", 3)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		var lines []string
		readLines(strings.NewReader(string(said)), "\n", func(line string) { lines = append(lines, line) })
		if most := strings.Count(string(said), "\n") + 1; len(lines) > most {
			t.Errorf("%d lines from %d", len(lines), most)
		}
		for _, line := range lines {
			switch {
			case line == "" || line != strings.TrimSpace(line):
				t.Errorf("not trimmed: %q", line)
			case len(line) > maxLine:
				t.Errorf("%d bytes", len(line))
			case !utf8.ValidString(line):
				t.Errorf("not UTF-8: %q", line)
			case strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }):
				t.Errorf("not printable: %q", line)
			}
		}
	})
}
