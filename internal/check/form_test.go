package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
)

// checkupOf is what a check with these options begins with; it prints into out.
// MINIMAIL_HOST is far, so that hints are as they were written.
func checkupOf(t *testing.T, out io.Writer, args ...string) *checkup {
	t.Helper()
	t.Setenv("MINIMAIL_HOST", "far")
	t.Setenv("MINIMAIL_SETTINGS", os.DevNull)
	s, err := settings.Parse(append(args, "check"), []settings.Word{{Name: "check"}, {Name: "restart"}})
	if err != nil {
		t.Fatal(err)
	}
	return &checkup{Settings: s, out: form{w: out, json: s.JSON, nagios: s.Nagios, signs: plainSigns}}
}

// says fails unless what has been printed is this, and forgets it.
func says(t *testing.T, out *strings.Builder, what, want string) {
	t.Helper()
	if out.String() != want {
		t.Errorf("%s: got\n%s, want\n%s", what, out.String(), want)
	}
	out.Reset()
}

func TestTheLastLineAndTheStatusAreAboutTheWorstPoint(t *testing.T) {
	t.Parallel()
	ok, warn, bad := point{"a", well, "fine", nil}, point{"b", doubtful, "odd", nil}, point{"login", broken, "bad", nil}
	in := point{"login", well, "in", nil}
	for _, c := range []struct {
		points         []point
		unknown        bool
		took           time.Duration
		person, nagios string
		status, code   int
	}{
		{[]point{ok, in}, false, 0, "all is well", "MINIMAIL OK - login: in", 0, 0},
		{[]point{ok, in, {"far end", well, "220", nil}}, false, 1234567 * time.Microsecond, "all is well", "MINIMAIL OK - login: in; far end: 220| time=1.235s", 0, 0},
		{[]point{ok, warn, in}, false, time.Nanosecond, "it works, with warnings: 1 of 3 points", "MINIMAIL WARNING - b: odd| time=0.000s", 1, 1},
		{[]point{ok, warn, bad, bad}, false, 0, "something will not work: 2 of 4 points fail, 1 warn", "MINIMAIL CRITICAL - login: bad; login: bad", 2, 2},
		{[]point{ok, bad}, false, 0, "something will not work: 1 of 2 points fail, 0 warn", "MINIMAIL CRITICAL - login: bad", 2, 2},
		{[]point{bad}, true, 0, "not all has been looked at", "MINIMAIL UNKNOWN - login: bad", 2, 3},
	} {
		for nagios, want := range map[bool]string{false: c.person, true: c.nagios} {
			var out strings.Builder
			k := checkup{out: form{w: &out, nagios: nagios, unknown: c.unknown, signs: plainSigns}, login: login{took: c.took}}
			for _, p := range c.points {
				k.add(p.Name, p.Verdict, p.Text)
			}
			if nagios != (out.Len() == 0) {
				t.Errorf("points: %q", out.String())
			}
			out.Reset()
			err := k.out.end(&k)
			status := map[bool]int{false: c.status, true: c.code}[nagios]
			if out.String() != want+"\n" || fail.Status(err) != status || err != nil && err.Error() != "" {
				t.Errorf("%v: %q, %v, status %d; want %q, %d", c.points, out.String(), err, fail.Status(err), want, status)
			}
		}
	}
}

func TestAProgramReadsAllPointsAtOnce(t *testing.T) {
	var out strings.Builder
	c := checkupOf(t, &out, "--json")
	c.add("a", well, "fine", "nothing")
	c.add("b", doubtful, "o|dd\x1b", "minimail check --host HOST # another")
	if out.Len() > 0 {
		t.Errorf("at once: %q", out.String())
	}
	for took, seconds := range map[time.Duration]string{1234567 * time.Microsecond: "  \"seconds\": 1.235,\n", 0: ""} {
		c.login.took = took
		err := c.out.end(c)
		says(t, &out, "JSON", fmt.Sprintf(`{
  "status": "warning",
  "exit": 1,
  "host": "far",
  "user": "%s",
%s  "points": [
    {
      "point": "a",
      "status": "ok",
      "text": "fine"
    },
    {
      "point": "b",
      "status": "warning",
      "text": "o|dd?",
      "fix": [
        "minimail check --host HOST # another"
      ]
    }
  ]
}
`, daemon.UserName(), seconds))
		if fail.Status(err) != 1 || err.Error() != "" {
			t.Errorf("%v, status %d", err, fail.Status(err))
		}
	}
	if b, err := broken.MarshalText(); string(b) != "failure" || err != nil {
		t.Errorf("%s, %v", b, err)
	}
}

func TestAnAnswerThatNobodyCanReadIsNone(t *testing.T) {
	t.Parallel()
	gone := errors.New("nobody reads it")
	for _, f := range []form{{}, {json: true}, {nagios: true}} {
		r, w := io.Pipe()
		r.CloseWithError(gone)
		f.w = w
		if err := f.end(&checkup{out: f}); !errors.Is(err, gone) || fail.Status(err) != 2 {
			t.Errorf("%+v: %v, status %d", f, err, fail.Status(err))
		}
	}
}

func TestWhatIsSeenAfterASignalIsNotSaid(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	var signal error
	c := checkup{out: form{w: &out, signs: plainSigns}, stopped: func() error { return signal }}
	c.add("a", doubtful, "odd", "mend it", "or that")
	says(t, &out, "before", "WARN a         odd\n       fix: mend it\n       fix: or that\n")
	signal = context.Canceled
	c.add("b", broken, "killed")
	says(t, &out, "after", "")
	if len(c.points) != 1 || c.worst != doubtful {
		t.Errorf("%v, worst %d", c.points, c.worst)
	}
}

func TestWhichSettingsAreInForceIsSaid(t *testing.T) {
	var out strings.Builder
	c := checkupOf(t, &out, "--idle", "5")
	c.checkSettings()
	says(t, &out, "a file", "OK   settings  /dev/null is read; not defaults: --host far (MINIMAIL_HOST), --idle 5\n")
	c = checkupOf(t, &out)
	missing := t.TempDir() + "/missing"
	t.Setenv("MINIMAIL_SETTINGS", missing)
	c.Settings, _ = settings.Parse([]string{"check"}, []settings.Word{{Name: "check"}})
	c.checkSettings()
	says(t, &out, "a missing file", "OK   settings  "+missing+" is not there; not defaults: --host far (MINIMAIL_HOST)\n")
}
