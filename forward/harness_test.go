package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"minimail/tunnel"
)

// enough is when a test gives up. Nothing is asserted about it.
const enough = time.Minute

// TestMain lets the runtime make what it keeps for ever (its poller), so that
// noLeaks does not count it.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	os.Exit(m.Run())
}

// noLeaks fails the test if goroutines or descriptors are left when all that
// it has cleaned up is gone. It has to be the first thing that a test calls.
func noLeaks(t testing.TB) {
	goroutines, fds := runtime.NumGoroutine(), openFiles()
	t.Cleanup(func() {
		var g, f int
		for end := time.Now().Add(enough); time.Now().Before(end); time.Sleep(time.Millisecond) {
			runtime.GC() // closes the pipes that package net keeps for splice(2)
			g, f = runtime.NumGoroutine(), openFiles()
			if g <= goroutines && f <= fds {
				return
			}
		}
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("left behind: %d goroutines (%d before), %d descriptors (%d before)\n%s", g, goroutines, f, fds, &stacks)
	})
}

// settled reports whether no more descriptors are open than there were.
func settled(before int) bool {
	runtime.GC()
	return openFiles() <= before
}

// openFiles is 0 where there is no /proc.
func openFiles() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// until polls.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(enough); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: waited until %s", what)
		}
	}
}

// receive waits for a channel.
func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(enough):
		t.Fatalf("in vain: waited for %s", what)
	}
	return v
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A run is a Forwarder at work.
type run struct {
	addr string
	stop context.CancelFunc
	done chan struct{} // closed when Serve has returned
	err  error         // what it has returned
}

// serving runs f with a listener of its own until the test ends.
func serving(t testing.TB, f *Forwarder, dial Dial) *run {
	t.Helper()
	return servingOn(t, f, must(net.Listen("tcp", "127.0.0.1:0")), dial)
}

func servingOn(t testing.TB, f *Forwarder, l net.Listener, dial Dial) *run {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &run{addr: l.Addr().String(), stop: stop, done: make(chan struct{})}
	go func() { defer close(r.done); r.err = f.Serve(ctx, l, dial) }()
	t.Cleanup(func() {
		stop()
		receive(t, "Serve's return", r.done)
	})
	return r
}

// patient is a forwarder for tests that are not about patience.
func patient() *Forwarder { return &Forwarder{DialTimeout: time.Hour} }

// call connects to addr and breaks off what has not ended when the test has.
func call(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(enough))
	return c.(*net.TCPConn)
}

// A farEnd is the server behind the forwarder.
type farEnd struct {
	net.Listener
	serve func(Stream) // closes nothing; the farEnd does
	mine  sync.WaitGroup
}

// answering starts a far end on 127.0.0.1, or on a Unix socket.
func answering(t testing.TB, network string, serve func(Stream)) *farEnd {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	e := &farEnd{Listener: l, serve: serve}
	e.mine.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(enough))
			e.mine.Go(func() { defer c.Close(); serve(c.(Stream)) })
		}
	})
	t.Cleanup(func() { l.Close(); e.mine.Wait() })
	return e
}

// dial is a Dial to the far end.
func (e *farEnd) dial(ctx context.Context) (Stream, error) {
	c, err := new(net.Dialer).DialContext(ctx, e.Addr().Network(), e.Addr().String())
	if err != nil {
		return nil, err
	}
	return c.(Stream), nil
}

// throughTunnel is a Dial to the far end whose connections are those that
// package tunnel makes. Its ssh is a program that only waits.
func (e *farEnd) throughTunnel(t testing.TB) Dial {
	tun := tunnel.New(tunnel.Config{Command: func() tunnel.Command { return tunnel.Command{Argv: []string{"sleep", "3600"}} }, Name: "test"})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); tun.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return func(ctx context.Context) (Stream, error) {
		return tun.Dial(ctx, e.Addr().Network(), e.Addr().String(), nil)
	}
}

// routes runs a test with each kind of connection to the far end that the
// product has.
func routes(t *testing.T, f func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial)) {
	direct := func(_ *testing.T, e *farEnd) Dial { return e.dial }
	tunnelled := func(t *testing.T, e *farEnd) Dial { return e.throughTunnel(t) }
	t.Run("tcp", func(t *testing.T) { noLeaks(t); f(t, "tcp", direct) })
	t.Run("unix", func(t *testing.T) { noLeaks(t); f(t, "unix", direct) })
	t.Run("tunnel", func(t *testing.T) { noLeaks(t); f(t, "tcp", tunnelled) })
}

// noise is n bytes that are the same in each run.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// inChunks writes b in pieces of random sizes, single bytes among them.
func inChunks(w io.Writer, b []byte, r *rand.Rand) error {
	for len(b) > 0 {
		n := 1 + r.IntN(64<<10)
		if r.IntN(4) == 0 {
			n = 1 + r.IntN(16)
		}
		n = min(n, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

type digest [sha256.Size]byte

func sum(b []byte) digest { return sha256.Sum256(b) }

// readSum is the digest of all that r has, before an error if there is one, read in
// pieces of random sizes.
func readSum(r io.Reader, rnd *rand.Rand) (digest, error) {
	h, buf := sha256.New(), make([]byte, 64<<10)
	for {
		n, err := r.Read(buf[:1+rnd.IntN(len(buf))])
		h.Write(buf[:n])
		switch {
		case err == io.EOF:
			return digest(h.Sum(nil)), nil
		case err != nil:
			return digest(h.Sum(nil)), err
		}
	}
}

// isReset tells an error of a broken connection from a clean end and from a
// deadline of ours.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) has(s string) bool { return strings.Contains(j.String(), s) }

func (j *journal) log() zerolog.Logger { return zerolog.New(j) }

func dialTCP(addr string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// echoes greets, and answers each line with itself.
func echoes(c Stream) {
	_, _ = io.WriteString(c, "220 far\r\n")
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
}

// says fails the test unless the forwarder's client reads want.
func says(t testing.TB, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v; want %q", b, err, want)
	}
}

func asks(t testing.TB, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	says(t, c, line)
}
