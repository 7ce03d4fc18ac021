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
	"minimail/privdrop"
	"minimail/tunnel"
)

// A running minimail tells how it is to whoever may connect to a Unix socket
// beside its pid file: root, and the user that it runs as. It writes one JSON
// object, a Report, and hangs up.
type Report struct {
	PID       int           `json:"pid"`
	Since     time.Time     `json:"since"`
	User      string        `json:"user"`
	Host      string        `json:"host"`
	Listening []string      `json:"listening"`
	Tunnel    TunnelReport  `json:"tunnel"`
	Clients   forward.Stats `json:"clients"`
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

// AnswerControl answers until l is closed.
func AnswerControl(l net.Listener, log zerolog.Logger, tell func() Report) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Error().Err(err).Msg("cannot answer status")
			time.Sleep(100 * time.Millisecond) // descriptors have run out, say
			continue
		}
		_ = c.SetDeadline(time.Now().Add(controlTimeout))
		_ = json.NewEncoder(c).Encode(tell())
		c.Close()
	}
}

// errDeaf is about a minimail that runs and does not answer.
var errDeaf = fmt.Errorf("it has not answered within %s", controlTimeout)

// maxReport bounds what is taken from a control socket, in bytes.
const maxReport = 64 << 10

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

// askControl asks the minimail with that pid file for a Report.
func askControl(pidFile string) (Report, error) {
	c, err := dialControl(pidFile)
	if err != nil {
		return Report{}, err
	}
	defer c.Close()
	return readReport(c)
}

// readReport reads one Report, and no more than maxReport.
func readReport(from io.Reader) (Report, error) {
	var r Report
	b, err := io.ReadAll(io.LimitReader(from, maxReport+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return r, errDeaf
	case err != nil:
		return r, err
	case len(b) > maxReport:
		return r, errors.New("it has answered without end")
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
	line("Listening", "%s", strings.Join(r.Listening, ", "))
	line("Tunnel", "%s", r.Tunnel.sentence(r.Host))
	line("Clients", "%d now, %d waiting; %d served, %d refused", r.Clients.Working, r.Clients.Waiting, r.Clients.Served, r.Clients.Refused)
	line("Bytes", "%d up, %d down", r.Clients.BytesUp, r.Clients.BytesDown)
	if r.Tunnel.LastError != "" && r.Tunnel.LastAt != nil {
		line("Last error", "%s ago: %s", ago(*r.Tunnel.LastAt), r.Tunnel.LastError)
	}
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
