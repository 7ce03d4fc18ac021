package link

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func newLink(t *testing.T, c Conditions) *Link {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("needs TUN devices: ", err)
	}
	l, err := New(1, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// echoed connects near to an echo server on the far side.
func echoed(t *testing.T, l *Link) net.Conn {
	t.Helper()
	var server net.Listener
	err := l.Far.Do(func() (err error) {
		server, err = net.Listen("tcp4", l.Far.Address.String()+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() { // ends with the near connection
		c, err := server.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	var c net.Conn
	err = l.Near.Do(func() (err error) {
		c, err = net.Dial("tcp4", server.Addr().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func echo(t *testing.T, c net.Conn, bytes int) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := c.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func TestARoundTripTakesTheDelayOfBothWays(t *testing.T) {
	l := newLink(t, Conditions{})
	c := echoed(t, l)
	l.Near.Set(Conditions{Delay: 30 * time.Millisecond})
	l.Far.Set(Conditions{Delay: 50 * time.Millisecond})
	if took := echo(t, c, 1); took < 80*time.Millisecond {
		t.Errorf("it took %s, less than the delays", took)
	}
}

func TestBytesTakeTheTimeThatTheRateGivesThem(t *testing.T) {
	l := newLink(t, Conditions{})
	c := echoed(t, l)
	l.Near.Set(Conditions{Rate: 800_000}) // 100,000 bytes a second
	if took := echo(t, c, 20_000); took < 200*time.Millisecond {
		t.Errorf("20,000 bytes took %s", took)
	}
}

func TestAHoleSwallowsEverythingUntilItEnds(t *testing.T) {
	l := newLink(t, Conditions{})
	c := echoed(t, l)
	var reached atomic.Int32
	sent := make(chan struct{}, 1000)
	ours := func(packet []byte) bool { return string(payload(packet)) == "x" }
	l.Far.Watch(func(out bool, packet []byte) {
		if !out && ours(packet) {
			reached.Add(1)
		}
	})
	l.Near.Watch(func(out bool, packet []byte) {
		if out && ours(packet) {
			sent <- struct{}{}
		}
	})
	l.Set(Conditions{Hole: true})
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the kernel sends it again and again
		select {
		case <-sent:
		case <-time.After(10 * time.Second):
			t.Fatal("it is not sent again: it has come through")
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d packets have come through", n)
	}
	l.Set(Conditions{})
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("after the hole: %v", err)
	}
}

// payload is what a packet of TCP's carries (RFC 791, 3.1; RFC 9293, 3.1).
func payload(packet []byte) []byte {
	segment := packet[packet[0]&15*4:]
	return segment[segment[12]>>4*4:]
}

func TestALossyLinkStillDeliversWhatTCPSends(t *testing.T) {
	l := newLink(t, Conditions{Loss: 0.1})
	echo(t, echoed(t, l), 100_000)
}

func TestTheSameSeedLosesTheSamePackets(t *testing.T) {
	fates := func(seed uint64) (s []bool) {
		q := newQueue(seed)
		q.set(Conditions{Loss: 0.5})
		for range 100 {
			_, arrives := q.fate(time.Now(), 100)
			s = append(s, arrives)
		}
		return s
	}
	first, again, other := fates(7), fates(7), fates(8)
	same := true
	for i := range first {
		if first[i] != again[i] {
			t.Fatalf("packet %d has another fate", i)
		}
		same = same && first[i] == other[i]
	}
	if same {
		t.Error("another seed loses the same packets")
	}
}

func TestWhatDoesNotFitIntoTheQueueIsLost(t *testing.T) {
	q := newQueue(1)
	q.set(Conditions{Rate: 8000, Queue: 1000, Delay: time.Second}) // a byte a millisecond
	now := time.Now()
	for _, want := range []struct {
		at      time.Duration
		due     time.Duration
		arrives bool
	}{
		{0, 1500 * time.Millisecond, true},
		{0, 2000 * time.Millisecond, true},
		{0, 0, false},
		{500 * time.Millisecond, 2500 * time.Millisecond, true},
		{5 * time.Second, 6500 * time.Millisecond, true},
	} {
		due, arrives := q.fate(now.Add(want.at), 500)
		if arrives != want.arrives || arrives && due.Sub(now) != want.due {
			t.Errorf("sent at %s: due %s, %t; want %s, %t", want.at, due.Sub(now), arrives, want.due, want.arrives)
		}
	}
}

func TestAProcessIsOnTheSideThatItWasStartedOn(t *testing.T) {
	l := newLink(t, Conditions{})
	for _, s := range []*Side{l.Near, l.Far} {
		var out []byte
		err := s.Do(func() (err error) {
			out, err = exec.Command("cat", "/proc/net/fib_trie").Output()
			return err
		})
		if err != nil || !strings.Contains(string(out), s.Address.String()) || !strings.Contains(string(out), "127.0.0.1") {
			t.Errorf("%s: %v: it sees\n%s", s.Address, err, out)
		}
	}
	if out, _ := os.ReadFile("/proc/thread-self/net/fib_trie"); strings.Contains(string(out), "10.9.8.") {
		t.Error("the thread has not come back")
	}
}

func TestAClosedLinkLeavesNoDescriptorBehind(t *testing.T) {
	newLink(t, Conditions{}).Close() // and again at the end: no harm
	before, _ := os.ReadDir("/proc/self/fd")
	for range 5 {
		l, err := New(1, Conditions{Delay: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	if after, _ := os.ReadDir("/proc/self/fd"); len(after) > len(before) {
		t.Errorf("%d descriptors before, %d after", len(before), len(after))
	}
}
