package daemon

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"minimail/forward"
	"minimail/tunnel"
)

// whole is a report that has something to say about everything.
func whole() Report {
	at := func(d time.Duration) *time.Time { t := time.Now().Add(d); return &t }
	return Report{
		PID: 7, Since: time.Now().Add(-time.Hour), User: "games", Host: "far",
		Forwards: []ForwardReport{{Listening: []string{"127.0.0.1:25", "[::1]:25"}, SMTP: true}, {Listening: []string{"127.0.0.1:110"}}},
		Tunnel:   TunnelReport{State: tunnel.Up, SSH: 9, Since: at(-time.Minute), Until: at(5 * time.Second), LastError: "no route", LastAt: at(-2 * time.Minute)},
		Clients:  forward.Stats{Working: 1, Waiting: 2, Served: 3, Refused: 4, BytesUp: 5, BytesDown: 6},
		Handover: true, Before: 6, Stopping: true, Log: "/var/log/m.log", LogError: "no space", LastRefusal: "too many", LastRefusalAt: at(-90 * time.Second),
	}
}

func TestStatusPrintsWhatPeopleWantToKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now().Add(-time.Hour).Local().Format(time.DateTime)
		first := "Since:       " + since + " (1h0m0s)\nUser:        games\n"
		at := "Listening:   127.0.0.1:25, [::1]:25 (smtp)\nListening:   127.0.0.1:110 (tcp)\n"
		for name, c := range map[string]struct {
			but  func(r *Report)
			want string
		}{
			"everything": {func(*Report) {}, first + "Log:         /var/log/m.log\nLog:         cannot be written: no space\n" + at +
				"Stopping:    when its clients have left\nBefore:      pid 6 lets its clients finish\nTunnel:      up, to far, ssh pid 9 for 1m0s, closes in 5s\n" +
				"Clients:     1 now, 2 waiting; 3 served, 4 refused\nBytes:       5 up, 6 down\n" +
				"Refused:     1m30s ago: too many\nLast error:  2m0s ago: no route\n"},
			"nothing to complain of": {func(r *Report) {
				r.LogError, r.Before, r.Stopping, r.LastRefusal, r.Tunnel.LastError, r.Clients = "", 0, false, "", "", forward.Stats{}
				r.Tunnel = TunnelReport{State: tunnel.Down}
			}, first + "Log:         /var/log/m.log\n" + at + "Tunnel:      down, to far\n" +
				"Clients:     0 now, 0 waiting; 0 served, 0 refused\nBytes:       0 up, 0 down\n"},
			"one that cannot serve": {func(r *Report) { r.Problem, r.Hint, r.Manager, r.LogError = "no host", "--host", "systemd", "" },
				first + "Log:         journalctl -u minimail, as it is systemd's\n" + at + "Problem:     no host\nHint:        --host\n"},
			"an old one, whose times are not known": {func(r *Report) {
				r.Handover, r.LogError, r.Before, r.Stopping, r.LastRefusalAt, r.Tunnel.LastAt = false, "", 0, false, nil, nil
			}, first + at + "Tunnel:      up, to far, ssh pid 9 for 1m0s, closes in 5s\n" +
				"Clients:     1 now, 2 waiting; 3 served, 4 refused\nBytes:       5 up, 6 down\n"},
			"a back-off": {func(r *Report) {
				*r = Report{Since: r.Since, User: r.User, Host: "far", Handover: true, Tunnel: TunnelReport{State: tunnel.BackingOff, Until: r.Tunnel.Until, Why: "no\nroute"}}
			}, first + "Log:         on the stderr of whoever has started it\nTunnel:      backing off, to far, for another 5s: no?route\n" +
				"Clients:     0 now, 0 waiting; 0 served, 0 refused\nBytes:       0 up, 0 down\n"},
		} {
			r := whole()
			c.but(&r)
			var got strings.Builder
			if r.print(&got); got.String() != c.want {
				t.Errorf("%s:\n%swant:\n%s", name, &got, c.want)
			}
		}
	})
}

func TestATunnelsReportHasNoTimeThatIsNone(t *testing.T) {
	now := time.Now()
	if got := NewTunnelReport(tunnel.Status{State: tunnel.Down}); got != (TunnelReport{State: tunnel.Down}) {
		t.Errorf("%+v", got)
	}
	got := NewTunnelReport(tunnel.Status{State: tunnel.BackingOff, PID: 5, Since: now, Until: now.Add(1), LastErrorAt: now.Add(2), Why: errors.New("why"), LastError: errors.New("last")})
	if !got.Since.Equal(now) || !got.Until.Equal(now.Add(1)) || !got.LastAt.Equal(now.Add(2)) {
		t.Errorf("%+v", got)
	}
	got.Since, got.Until, got.LastAt = nil, nil, nil
	if got != (TunnelReport{State: tunnel.BackingOff, SSH: 5, Why: "why", LastError: "last"}) {
		t.Errorf("%+v", got)
	}
}

func TestAnAnswerIsReadAsFarAsMinimailWouldAnswer(t *testing.T) {
	full := `{"pid":7}` + strings.Repeat(" ", maxItem-9)
	for name, c := range map[string]struct {
		from io.Reader
		want string // how an error begins
	}{
		"a whole one":                               {strings.NewReader(full), ""},
		"one of a byte more":                        {strings.NewReader(full + " "), "it has answered without end"},
		"none in time":                              {iotest.ErrReader(os.ErrDeadlineExceeded), errDeaf.Error()},
		"one that is broken off":                    {iotest.ErrReader(io.ErrClosedPipe), "io: read/write on closed pipe"},
		"one whose end is a reset":                  {io.MultiReader(strings.NewReader(full), iotest.ErrReader(syscall.ECONNRESET)), ""},
		"another one's, who speaks no JSON":         {strings.NewReader("220 far.test"), "it has not answered as minimail does: "},
		"another one's, who speaks of other things": {strings.NewReader(`{"pid":"x"}`), "it has not answered as minimail does: json: "},
	} {
		r, err := readReport(c.from)
		if c.want == "" && (err != nil || r.PID != 7) || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || r.PID != 0) {
			t.Errorf("%s: pid %d, %v, want %q", name, r.PID, err, c.want)
		}
	}
}
