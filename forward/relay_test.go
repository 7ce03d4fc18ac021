//go:build linux

package forward

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAHeldClientCostsNoGoroutine(t *testing.T) {
	noLeaks(t)
	const n = 100
	end := answering(t, "tcp", echoes)
	r := serving(t, patient(), end.dial)
	first := call(t, r.addr)
	says(t, first, "220 far\r\n")
	asks(t, first, "NOOP\r\n") // once it is answered, all that is needed is there
	before := runtime.NumGoroutine()
	for range n {
		c := call(t, r.addr)
		says(t, c, "220 far\r\n")
		asks(t, c, "NOOP\r\n")
	}
	// The far end has one for each.
	until(t, "nobody needs a goroutine", func() bool { return runtime.NumGoroutine() <= before+n })
	asks(t, first, "NOOP\r\n")
}

func TestASessionEndsAsItsFirstEndSays(t *testing.T) {
	for name, test := range map[string]struct {
		far  func(stream)
		near func(*net.TCPConn)
		end  string
	}{
		"the client goes without a word": {echoes, func(c *net.TCPConn) { c.Close() }, "client closed"},
		"the client waits for the end":   {echoes, func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.ReadAll(c) }, "client closed"},
		"the server says good-bye": {func(c stream) {
			_, _ = io.WriteString(c, "220 far\r\n")
			_, _ = c.Read(make([]byte, 6))
			_, _ = io.WriteString(c, "221 bye\r\n")
		}, func(c *net.TCPConn) { _, _ = io.WriteString(c, "QUIT\r\n"); _, _ = io.ReadAll(c) }, "server closed"},
		"the server says good-bye and the client nothing any more": {func(c stream) {
			_, _ = io.WriteString(c, "220 far\r\n221 bye\r\n")
		}, func(c *net.TCPConn) { _, _ = io.ReadAll(c); time.Sleep(2 * settle) }, "server closed"},
		"the client resets": {echoes, func(c *net.TCPConn) { reset(c) }, "client reset"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			var log journal
			f := patient()
			f.Log = log.log()
			c := call(t, servingSMTP(t, f, answering(t, "tcp", test.far).dial).addr)
			says(t, c, "220 far\r\n")
			test.near(c)
			until(t, "the visit is over", func() bool { return log.has("client served") })
			if !log.has(`"end":"` + test.end + `"`) {
				t.Errorf("not %q: %s", test.end, &log)
			}
		})
	}
}

// lowLimit leaves no descriptor until the function it returns is called.
func lowLimit(t testing.TB) (restore func()) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	low := was
	low.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	restore = sync.OnceFunc(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
	t.Cleanup(restore)
	return restore
}

func TestASessionThatTheRelayCannotTakeIsServedAllTheSame(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", echoes)
	var restore func()
	r := serving(t, patient(), func(ctx context.Context) (net.Conn, error) {
		c, err := end.dial(ctx)
		if err == nil {
			err = Greeted(ctx, c) // the far end has its descriptor
		}
		restore = lowLimit(t)
		return c, err
	})
	c := call(t, r.addr)
	says(t, c, "220 far\r\n")
	asks(t, c, "NOOP\r\n")
	restore()
}

func TestASessionThatCannotGoOnLooksBrokenAndTheLogSaysWhy(t *testing.T) {
	noLeaks(t)
	var log journal
	f := patient()
	f.Log = log.log()
	c := call(t, serving(t, f, answering(t, "tcp", echoes).dial).addr)
	says(t, c, "220 far\r\n")
	asks(t, c, "NOOP\r\n")
	restore := lowLimit(t)
	_, _ = c.Write(make([]byte, 4*relayBuffer)) // needs a bridge, which needs descriptors
	if _, err := io.Copy(io.Discard, c); !isReset(err) {
		t.Errorf("the client sees %v", err)
	}
	restore()
	until(t, "the visit is over", func() bool { return log.has("client served") })
	if !log.has("cannot go on with a client") || !log.has("too many open files") || !log.has("cut off") {
		t.Error(&log)
	}
}

func TestASessionThatCannotGoOnLooksBrokenToAClientThatHasSaidNothing(t *testing.T) {
	noLeaks(t)
	var log journal
	f := patient()
	f.Log = log.log()
	send := make(chan struct{})
	end := answering(t, "tcp", func(c stream) {
		_, _ = io.WriteString(c, "220 far\r\n")
		<-send
		_, _ = c.Write(make([]byte, relayBuffer))
		_, _ = io.Copy(io.Discard, c)
	})
	c := call(t, serving(t, f, end.dial).addr)
	says(t, c, "220 far\r\n")
	restore := lowLimit(t)
	close(send) // needs a bridge, which needs descriptors
	if n, err := io.Copy(io.Discard, c); !isReset(err) {
		t.Errorf("the client sees %d bytes and %v", n, err)
	}
	restore()
	until(t, "the visit is over", func() bool { return log.has("cut off") })
}

func TestWhatTheRelayCouldNotWriteIsNotLost(t *testing.T) {
	noLeaks(t)
	var clients sync.WaitGroup
	r := newRelay(t.Context(), &clients)
	defer r.close()
	client, server := newPair(t), newPair(t)
	v := &visit{f: patient(), client: client.far, server: server.far, sockets: [2]int{client.fd, server.fd}}
	v.f.stats.working.Add(1)
	if err := r.enter(v); err != nil {
		t.Fatal(err)
	}
	var sent []byte
	for n := uint64(0); len(v.rest[ofClient]) == 0; n++ {
		piece := noise(n, relayBuffer/2)
		if _, err := client.Write(piece); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, piece...)
		if outcome := r.copy(v, ofClient); (outcome == beyond) != (len(v.rest[ofClient]) > 0) {
			t.Fatalf("outcome %d with %d bytes left", outcome, len(v.rest[ofClient]))
		}
	}
	r.handOver(v)
	client.Close()
	got, err := io.ReadAll(server)
	if err != nil || sum(got) != sum(sent) {
		t.Errorf("%d bytes of %d, or others; %v", len(got), len(sent), err)
	}
	server.Close()
	clients.Wait()
}

// A pair is two connected sockets: a connection, and the number of the other
// one, which is the relay's.
type pair struct {
	net.Conn
	fd  int
	far net.Conn // stands for the connection that the relay's socket was
}

func newPair(t *testing.T) pair {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := must(attach(fds[0]))
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(enough))
	stand, other := net.Pipe()
	other.Close()
	return pair{c, fds[1], stand}
}
