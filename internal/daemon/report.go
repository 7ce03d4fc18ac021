package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/tunnel"
)

// A Report is how a running minimail is, told to whoever may connect to the Unix
// socket beside its pid file: root, and the user that it runs as. It is one JSON
// object.
type Report struct {
	PID       int             `json:"pid"`
	Since     time.Time       `json:"since"`
	User      string          `json:"user"`
	Host      string          `json:"host"`
	Listening []string        `json:"listening"`
	Forwards  []ForwardReport `json:"forwards"`
	Tunnel    TunnelReport    `json:"tunnel"`
	Clients   forward.Stats   `json:"clients"`
	// LastRefusal is why a client was turned away the last time.
	LastRefusal   string     `json:"last_refusal,omitempty"`
	LastRefusalAt *time.Time `json:"last_refusal_at,omitempty"`
	// Problem is why it cannot serve, and tells all clients so; "": it can.
	Problem string `json:"problem,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Handover is whether it can hand over to another one; Before is the one that
	// it has taken over from, while that lets its clients finish.
	Handover bool `json:"handover"`
	Before   int  `json:"before,omitempty"`
	Stopping bool `json:"stopping,omitempty"` // it ends when its clients have left
	// Log is where it logs to; "": its service manager's, or a terminal.
	Log        string         `json:"log,omitempty"`
	LogInFile  bool           `json:"log_in_file,omitempty"` // it is the settings file that says so
	LogError   string         `json:"log_error,omitempty"`   // why its last line was not written
	Foreground bool           `json:"foreground,omitempty"`
	Manager    string         `json:"manager,omitempty"`
	Given      settings.Given `json:"given"`

	uid int // whose socket it is, -1: unknown
}

type ForwardReport struct {
	Listening []string `json:"listening"`
	SMTP      bool     `json:"smtp"` // clients get a 421 if they cannot be served
	Near      string   `json:"near_end"`
	Far       string   `json:"far_end"`
}

type TunnelReport struct {
	State     tunnel.State `json:"state"`
	SSH       int          `json:"ssh_pid,omitempty"`
	Since     *time.Time   `json:"since,omitempty"`
	Until     *time.Time   `json:"until,omitempty"` // end of a countdown or a back-off
	Why       string       `json:"why,omitempty"`   // of a back-off
	LastError string       `json:"last_error,omitempty"`
	LastAt    *time.Time   `json:"last_error_at,omitempty"`
}

func NewTunnelReport(s tunnel.Status) TunnelReport {
	r := TunnelReport{State: s.State, SSH: s.PID, Since: unlessZero(s.Since), Until: unlessZero(s.Until), LastAt: unlessZero(s.LastErrorAt)}
	if s.Why != nil {
		r.Why = s.Why.Error()
	}
	if s.LastError != nil {
		r.LastError = s.LastError.Error()
	}
	return r
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// readReport reads one Report, and no more than maxItem.
func readReport(from io.Reader) (Report, error) {
	var r Report
	b, err := io.ReadAll(io.LimitReader(from, maxItem+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return r, errDeaf
	case err != nil && !errors.Is(err, syscall.ECONNRESET): // by one that does not hear what is wanted
		return r, err
	case len(b) > maxItem:
		return r, errEndless
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, fmt.Errorf("it has not answered as minimail does: %w", err)
	}
	return r, nil
}

// print writes what people want to know, below App::Daemon's lines.
func (r Report) print(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name+":", fail.Printable(fmt.Sprintf(format, args...)))
	}
	line("Since", "%s (%s)", r.Since.Local().Format(time.DateTime), ago(r.Since))
	line("User", "%s", r.User)
	if r.Handover { // an older one does not say
		line("Log", "%s", r.kept())
	}
	if r.LogError != "" {
		line("Log", "%s", r.unwritten())
	}
	for _, f := range r.Forwards {
		line("Listening", "%s (%s)", strings.Join(f.Listening, ", "), map[bool]string{true: "smtp", false: "tcp"}[f.SMTP])
	}
	if r.Problem != "" {
		line("Problem", "%s", r.Problem)
		line("Hint", "%s", r.Hint)
		return
	}
	if r.Stopping {
		line("Stopping", "when its clients have left")
	}
	if r.Before != 0 {
		line("Before", "pid %d lets its clients finish", r.Before)
	}
	line("Tunnel", "%s", r.Tunnel.sentence(r.Host))
	line("Clients", "%d now, %d waiting; %d served, %d refused", r.Clients.Working, r.Clients.Waiting, r.Clients.Served, r.Clients.Refused)
	line("Bytes", "%d up, %d down", r.Clients.BytesUp, r.Clients.BytesDown)
	if r.LastRefusal != "" && r.LastRefusalAt != nil {
		line("Refused", "%s ago: %s", ago(*r.LastRefusalAt), r.LastRefusal)
	}
	if r.Tunnel.LastError != "" && r.Tunnel.LastAt != nil {
		line("Last error", "%s ago: %s", ago(*r.Tunnel.LastAt), r.Tunnel.LastError)
	}
}

// kept is where its log is, and who manages it.
func (r Report) kept() string {
	switch {
	case r.Manager != "":
		return "journalctl -u minimail, as it is " + r.Manager + "'s"
	case r.Log == "":
		return "on the stderr of whoever has started it"
	}
	return r.Log
}

func (r Report) unwritten() string { return "cannot be written: " + r.LogError }

func (t TunnelReport) sentence(host string) string {
	s := fmt.Sprintf("%s, to %s", t.State, host)
	if t.Since != nil {
		s += fmt.Sprintf(", ssh pid %d for %s", t.SSH, ago(*t.Since))
	}
	if t.Until != nil && t.State == tunnel.BackingOff {
		return s + fmt.Sprintf(", for another %s: %s", ago(*t.Until), t.Why)
	}
	if t.Until != nil {
		s += ", closes in " + ago(*t.Until)
	}
	return s
}

// ago is how far t is from now, either way.
func ago(t time.Time) string { return time.Since(t).Abs().Round(time.Second).String() }
