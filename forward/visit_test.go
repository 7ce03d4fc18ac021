package forward

import (
	"io"
	"net"
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heldMemory is what a held client may cost, in bytes of our own memory.
const heldMemory = 8704

func TestAHeldClientCostsLittleMemory(t *testing.T) {
	if raced || testing.CoverMode() != "" {
		t.Skip("needs a build without the race detector and coverage, whose stacks are larger: go test ./forward")
	}
	for name, serve := range map[string]func(testing.TB, *Forwarder, Dial) *run{"tcp": serving, "smtp": servingSMTP} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			const n = 500
			l := must(net.Listen("tcp", "127.0.0.1:0"))
			end := &farEnd{Listener: l} // without a goroutine for each: they would count
			r := serve(t, patient(), end.dial)
			one := func() {
				c := call(t, r.addr)
				far := must(l.Accept())
				t.Cleanup(func() { far.Close() })
				_, _ = io.WriteString(far, "220 far\r\n")
				says(t, c, "220 far\r\n")
			}
			t.Cleanup(func() { l.Close() })
			one()
			before := inUse()
			for range n {
				one()
			}
			if each := (inUse() - before) / n; each > heldMemory {
				t.Errorf("%d bytes each", each)
			}
		})
	}
}

// inUse is what the heap and all stacks have, the connections of the test's own
// included.
func inUse() (sum int64) {
	runtime.GC()
	runtime.GC() // what pools keep over the first one
	all := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(all)
	for _, s := range all {
		sum += int64(s.Value.Uint64())
	}
	return sum
}

func TestASessionEndsAsItsFirstEndSays(t *testing.T) {
	for name, test := range map[string]struct {
		far  func(Stream)
		near func(*net.TCPConn)
		end  string
	}{
		"the client goes without a word": {echoes, func(c *net.TCPConn) { c.Close() }, "client closed"},
		"the client waits for the end":   {echoes, func(c *net.TCPConn) { _ = c.CloseWrite(); _, _ = io.ReadAll(c) }, "client closed"},
		"the server says good-bye": {func(c Stream) {
			_, _ = io.WriteString(c, "220 far\r\n")
			_, _ = c.Read(make([]byte, 6))
			_, _ = io.WriteString(c, "221 bye\r\n")
		}, func(c *net.TCPConn) { _, _ = io.WriteString(c, "QUIT\r\n"); _, _ = io.ReadAll(c) }, "server closed"},
		"the server says good-bye and the client nothing any more": {func(c Stream) {
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

// TestASessionGoesOnWithoutAFreeDescriptor: much is moved through a pipe, which
// needs two.
func TestASessionGoesOnWithoutAFreeDescriptor(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", echoes)
	c := call(t, serving(t, patient(), end.dial).addr)
	says(t, c, "220 far\r\n")
	asks(t, c, "NOOP\r\n")
	restore := lowLimit(t)
	sent := noise(40, 1<<20)
	go c.Write(sent)
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil || sum(got) != sum(sent) {
		t.Errorf("%d of %d bytes, or others; %v", n, len(sent), err)
	}
	restore()
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

func dup(f *os.File) (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3) }
