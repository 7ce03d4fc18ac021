package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A lease is a connection to a far end whose tunnel has ended, or has not.
type lease struct {
	*net.TCPConn
	why error
}

func (l lease) NetConn() net.Conn        { return l.TCPConn }
func (l lease) Received()                {}
func (l lease) Lost(time.Duration) error { return l.why }

// causes are why a session ends before its time, and what a client that can be
// told is told.
var causes = map[string]struct {
	lost error // the tunnel has ended
	end  func(r *run, server Stream)
	told string
}{
	"the far end closes": {nil, func(_ *run, server Stream) { server.Close() }, "minimail: " + errLost.Error()},
	"the far end resets": {nil, func(_ *run, server Stream) { reset(server) }, "minimail: " + errLost.Error()},
	"the tunnel is lost": {errors.New("ssh: timeout"), func(_ *run, server Stream) { server.Close() }, errLost.Error() + ": ssh: timeout"},
	"minimail stops":     {nil, func(r *run, _ Stream) { r.stop() }, ErrStopping.Error()},
}

// TestWhatAMailClientIsToldIsTrueInEachStateAndForEachCause is about docs/DESIGN.md,
// "What a client is told", on real sockets. Beside what it may be told a client sees
// an orderly end, which takes nothing back.
func TestWhatAMailClientIsToldIsTrueInEachStateAndForEachCause(t *testing.T) {
	for cause, why := range causes {
		t.Run(cause, func(t *testing.T) {
			noLeaks(t)
			for state, c := range states {
				got, err := endedIn(t, c.script, why.lost, why.end)
				switch {
				case err != nil:
					t.Errorf("%s: the end is %v", state, err)
				case c.want:
					is421(t, got, why.told)
				case got != "":
					t.Errorf("%s: %q is made up", state, got)
				}
			}
		})
	}
}

// endedIn plays a session up to a state, ends it, and returns what the client
// gets then.
func endedIn(t *testing.T, script string, lost error, end func(*run, Stream)) (string, error) {
	t.Helper()
	servers, over := make(chan Stream, 1), make(chan struct{})
	defer close(over)
	far := answering(t, "tcp", func(c Stream) { servers <- c; <-over })
	f := patient()
	f.DrainTimeout = time.Millisecond
	f.Gone = func(c net.Conn) bool { l, is := c.(lease); return is && l.why != nil }
	r := servingSMTP(t, f, func(ctx context.Context) (Stream, error) {
		c, err := far.dial(ctx)
		if err != nil {
			return nil, err
		}
		return lease{c.(*net.TCPConn), lost}, nil
	})
	client := call(t, r.addr)
	server := receive(t, "the server's side", servers)
	until(t, "it is at work", func() bool { return f.Stats().Working == 1 })
	steps(script, func(p []byte, fromClient bool) {
		from, to := Stream(client), server
		if !fromClient {
			from, to = to, from
		}
		if _, err := from.Write(p); err != nil {
			t.Fatal(err)
		}
		says(t, to, string(p))
	})
	end(r, server)
	got, err := io.ReadAll(client)
	client.Close()
	return string(got), err
}
