package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A wire carries items between two minimails, and open files with them
// (unix(7), SCM_RIGHTS).
type wire struct {
	conn    *net.UnixConn
	decoder *json.Decoder
	came    int64      // bytes up to now
	files   []*os.File // that have come, and not been claimed yet

	sending sync.Mutex
}

// An item is one thing said. Its fields mean something to some kinds only.
type item struct {
	Is     string   `json:"is"`
	Name   string   `json:"name,omitempty"`
	File   bool     `json:"file,omitempty"` // one comes with it
	PID    int      `json:"pid,omitempty"`
	Serves []string `json:"serves,omitempty"`
	Env    []string `json:"env,omitempty"`
}

// maxItem bounds what a wire reads before the next item is complete, in bytes:
// who is at its other end may be anybody's.
const maxItem = 64 << 10

var errEndless = errors.New("it has answered without end")

func newWire(c *net.UnixConn) *wire {
	w := &wire{conn: c}
	w.decoder = json.NewDecoder(w)
	return w
}

// Read is for the decoder.
func (w *wire) Read(b []byte) (int, error) {
	if w.came-w.decoder.InputOffset() > maxItem {
		return 0, errEndless
	}
	oob := make([]byte, unix.CmsgSpace(4*16))
	n, oobn, _, _, err := w.conn.ReadMsgUnix(b, oob)
	n, oobn = max(n, 0), max(oobn, 0) // -1 comes with an error
	w.came += int64(n)
	messages, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		fds, rightsErr := unix.ParseUnixRights(&m)
		parseErr = errors.Join(parseErr, rightsErr)
		for _, fd := range fds {
			w.files = append(w.files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return n, errors.Join(err, parseErr)
}

// receive waits for the next item. The caller closes the file, if there is one.
func (w *wire) receive() (i item, f *os.File, err error) {
	if err := w.decoder.Decode(&i); err != nil {
		return i, nil, err
	}
	if !i.File {
		return i, nil, nil
	}
	if len(w.files) == 0 {
		return i, nil, fmt.Errorf("no file has come with %q", i.Is)
	}
	f, w.files = w.files[0], w.files[1:]
	return i, f, nil
}

// sendTimeout is how long the other side may be deaf.
const sendTimeout = 2 * time.Second

// send is safe for concurrent use. f, which may be nil, stays the caller's.
func (w *wire) send(i item, f *os.File) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	var rights []byte
	if i.File = f != nil; i.File {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		// not f.Fd(), which would make the file, and what shares it, blocking
		if err := raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) }); err != nil {
			return err
		}
	}
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, _, err = w.conn.WriteMsgUnix(append(b, '\n'), rights, nil)
	return err
}

// hungUp reports whether nobody is at the other end any more, though what he has
// said may not have been received yet.
func (w *wire) hungUp() (gone bool) {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, _ := unix.Poll(p, 0)
		gone = n > 0 && p[0].Revents&unix.POLLHUP != 0
	})
	return gone || err != nil
}

func (w *wire) close() {
	w.conn.Close()
	for _, f := range w.files {
		f.Close()
	}
	w.files = nil
}
