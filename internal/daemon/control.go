package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
	"minimail/tunnel"
)

// A running minimail tells how it is to whoever may connect to a Unix socket
// beside its pid file: root, and the user that it runs as. It writes one JSON
// object, a Report, and hangs up.
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
	// Log is where it logs to; "": its service manager's, or a terminal.
	Log        string         `json:"log,omitempty"`
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

// controlSocket is where the minimail with that pid file answers.
func controlSocket(pidFile string) string { return strings.TrimSuffix(pidFile, ".pid") + ".sock" }

// ListenControl makes the socket, which root gives to who, if there is somebody
// to become. Only who holds the pid file may call it: what is there is a dead
// one's.
func ListenControl(pidFile string, who *user.User) (net.Listener, error) {
	place, err := FindFor(pidFile, who)
	if err != nil {
		return nil, err
	}
	path := controlSocket(place.real)
	removeSocket(path)
	umask := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(umask)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // PidFile.Release removes it
	if os.Geteuid() == 0 {
		// By its path, which only root can change: in a place of the user's we are
		// not root any more.
		if err := os.Lchown(path, place.uid, -1); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// removeSocket removes path if it is a socket, and nothing else.
func removeSocket(path string) {
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
}

// controlTimeout is how long either side may take.
const controlTimeout = 2 * time.Second

// A Control answers at the control socket.
type Control struct {
	Log    zerolog.Logger
	Report func() Report
	Legacy func() Legacy
	Heirs  chan<- *Heir // gets who is ready to take over
}

// Answer answers until l is closed.
func (c Control) Answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.Log.Error().Err(err).Msg("cannot answer status")
			time.Sleep(100 * time.Millisecond) // descriptors have run out, say
			continue
		}
		go c.answer(conn.(*net.UnixConn)) // ends when the other side does, or soon
	}
}

// answer hears what is wanted: one that has asked for nothing wants to know how
// we are.
func (c Control) answer(conn *net.UnixConn) {
	w := newWire(conn)
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	if wanted, _, _ := w.receive(); wanted.Is == "handover" {
		c.handOver(w)
		return
	}
	_ = json.NewEncoder(conn).Encode(c.Report())
	w.close()
}

// handOver waits until the one that asks is ready, for as long as that takes, and
// leaves the rest to whoever listens to Heirs.
func (c Control) handOver(w *wire) {
	_ = w.conn.SetDeadline(noDeadline)
	if err := mayInherit(w.conn); err != nil {
		c.Log.Warn().Err(err).Msg("nobody has taken over: going on")
		w.close()
		return
	}
	h, err := bequeath(w, c.Legacy())
	if err != nil {
		c.Log.Warn().Err(err).Msg("nobody has taken over: going on")
		w.close()
		return
	}
	c.Heirs <- h // or the process ends
}

// mayInherit refuses all but root and the user that we are. So does the socket's
// mode, where that can be relied upon.
func mayInherit(c *net.UnixConn) error {
	uid, err := userAt(c)
	if err == nil && uid != 0 && uid != os.Getuid() {
		err = fmt.Errorf("uid %d has asked for what we have", uid)
	}
	return err
}

var noDeadline time.Time

// errDeaf is about a minimail that runs and does not answer.
var errDeaf = fmt.Errorf("it has not answered within %s", controlTimeout)

// dialControl connects to the minimail with that pid file. Who answers has to be
// root, or the owner of the pid file, as far as the kernel tells.
func dialControl(pidFile string) (*net.UnixConn, error) {
	_, owner, err := readPid(pidFile)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("unix", controlSocket(pidFile), controlTimeout)
	if err != nil {
		return nil, err
	}
	uid, err := userAt(c.(*net.UnixConn))
	if err == nil && uid != 0 && uid != owner {
		err = fmt.Errorf("it is %s who answers there", privdrop.Name(uid))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(controlTimeout))
	return c.(*net.UnixConn), nil
}

// ask says what is wanted to the minimail with that pid file. The answer has to
// come within controlTimeout.
func ask(pidFile, wanted string) (*wire, error) {
	c, err := dialControl(pidFile)
	if err != nil {
		return nil, err
	}
	w := newWire(c)
	// One that does not hear what is wanted may have answered, and hung up.
	if err := w.send(item{Is: wanted}, nil); err != nil && !errors.Is(err, syscall.EPIPE) {
		w.close()
		return nil, err
	}
	return w, nil
}

// askControl asks the minimail with that pid file for a Report.
func askControl(pidFile string) (Report, error) {
	w, err := ask(pidFile, "status")
	if err != nil {
		return Report{}, err
	}
	defer w.close()
	r, err := readReport(w.conn)
	if fi, statErr := os.Lstat(controlSocket(pidFile)); statErr == nil {
		r.uid = ownerOf(fi)
	} else {
		r.uid = -1
	}
	return r, err
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
	line("Log", "%s", r.kept())
	for _, f := range r.Forwards {
		line("Listening", "%s (%s)", strings.Join(f.Listening, ", "), map[bool]string{true: "smtp", false: "tcp"}[f.SMTP])
	}
	if r.Problem != "" {
		line("Problem", "%s", r.Problem)
		line("Hint", "%s", r.Hint)
		return
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
