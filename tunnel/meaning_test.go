package tunnel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// hears has a launch hear these lines, of which each has a meaning.
func hears(t *testing.T, l *launch, stop func(error), meanings map[string]Meaning, lines ...string) (log string) {
	t.Helper()
	b := new(strings.Builder)
	listen := func() func(string, bool) Meaning { return func(line string, _ bool) Meaning { return meanings[line] } }
	said := strings.NewReader(strings.Join(lines, "\r\n"))
	New(Config{NearEnds: []string{"1025"}, Listen: listen}).listen(l, said, strings.NewReader(""), zerolog.New(b), stop)
	return b.String()
}

func TestWhatWasSaidBeforeTheHostHasLetSSHInExplainsNothingAfterIt(t *testing.T) {
	meanings := map[string]Meaning{"trouble": {Why: "trouble"}, "let in": {LetIn: true}, "more trouble": {Why: "more trouble"}}
	for last, want := range map[string]string{"let in": "", "more trouble": "more trouble"} {
		l := newLaunch(Command{})
		if hears(t, l, nil, meanings, "trouble", "let in", last); l.lastSince(l.began) != want {
			t.Errorf("after %q: %q, want %q", last, l.lastSince(l.began), want)
		}
		l.stop(nil)
	}
}

func TestAnSSHThatWillMakeNoTunnelIsStoppedAtOnce(t *testing.T) {
	l := newLaunch(Command{})
	defer l.stop(nil)
	var why []error
	stop := func(err error) { why = append(why, err) }
	meanings := map[string]Meaning{"a line": {Why: "a line"}, "no": {Why: "it asks for a password.", Failure: Definite, Useless: true}}
	hears(t, l, stop, meanings, "a line", "no")
	var f failure
	if len(why) != 1 || !errors.As(why[0], &f) || f.why.Error() != "it asks for a password." || f.kind != Definite || f.hopeless {
		t.Errorf("stopped because of %+v", why)
	}
	if got := l.lastSince(l.began); got != "it asks for a password" {
		t.Errorf("remembered %q", got)
	}
}

func TestOfANearEndThatNobodyKnowsTheHolderOfTheReasonIsWhatSSHSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLaunch(Command{})
		l.runs(1, func(int) Proof { return Proof{Holder: func(string) string { return "" }} })
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		hears(t, l, stop, map[string]Meaning{"no port 1025": {NearEnd: "1025"}}, "no port 1025")
		if <-ctx.Done(); context.Cause(ctx).Error() != "ssh cannot listen on 1025, its near end here: no port 1025" {
			t.Errorf("stopped because of %v", context.Cause(ctx))
		}
	})
}

// TestANearEndThatIsLateIsGivenTheTimeOfAFewTries: those of a client are up to 50
// ms apart. And whom it never lets in is told soon.
func TestANearEndThatIsLateIsGivenTheTimeOfAFewTries(t *testing.T) {
	for answered, want := range map[time.Duration]bool{200 * time.Millisecond: false, time.Second: true} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			time.AfterFunc(answered, func() { close(l.answered) })
			hears(t, l, stop, map[string]Meaning{"no port 1025": {NearEnd: "1025"}}, "no port 1025")
			time.Sleep(time.Minute)
			if stopped := ctx.Err() != nil; stopped != want {
				t.Errorf("somebody is answered after %s: stopped %t, want %t", answered, stopped, want)
			}
		})
	}
}

func TestTheLogSaysHowManyLinesItHasNotTaken(t *testing.T) {
	for n, want := range map[int]string{maxLines: "", maxLines + 1: `{"level":"warn","lines":1,"message":"ssh said more than is logged"}` + "\n"} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			log := hears(t, l, nil, nil, strings.Split(strings.Repeat("word ", n), " ")...)
			if logged := strings.Repeat(`{"level":"info","ssh":"word","message":"ssh says"}`+"\n", maxLines); log != logged+want {
				t.Errorf("of %d lines: %s", n, log)
			}
			l.stop(nil)
		})
	}
}
