package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"minimail/privdrop"
)

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
const controlTimeout = 5 * time.Second

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
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
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
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed it
		var lock os.FileInfo
		if lock, err = os.Lstat(lockFile(pidFile)); err == nil {
			owner = OwnerOf(lock)
		}
	}
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

// Listening is at which addresses the minimail with that pid file serves, as it
// says; none: it has not told us.
func Listening(pidFile string) []string {
	r, _ := askControl(pidFile)
	return r.Listening
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
		r.uid = OwnerOf(fi)
	} else {
		r.uid = -1
	}
	return r, err
}
