package forward

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// rounds is a source of chunk sizes; a failure can be had again by its seed.
func rounds(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestBytesArriveUnalteredBothWaysAtOnceWhateverTheChunks(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		up, down := noise(1, 5<<20+17), noise(2, 4<<20+1)
		got := make(chan error, 1)
		end := answering(t, network, func(c Stream) {
			wrote := make(chan error, 1)
			go func() {
				err := inChunks(c, down, rounds(3))
				_ = c.CloseWrite()
				wrote <- err
			}()
			s, err := readSum(c, rounds(4))
			if s == sum(nil) {
				<-wrote
				return // a connection that the tunnel gave up just as it was made
			}
			if werr := <-wrote; err == nil {
				err = werr
			}
			if err == nil && s != sum(up) {
				err = fmt.Errorf("the far end got other bytes than the client sent")
			}
			got <- err
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		wrote := make(chan error, 1)
		go func() {
			err := inChunks(c, up, rounds(5))
			_ = c.CloseWrite()
			wrote <- err
		}()
		s, err := readSum(c, rounds(6))
		if err != nil {
			t.Fatal(err)
		}
		if s != sum(down) {
			t.Error("the client got other bytes than the far end sent")
		}
		if err := receive(t, "the client's writing", wrote); err != nil {
			t.Error(err)
		}
		if err := receive(t, "the far end", got); err != nil {
			t.Error(err)
		}
	})
}

func TestTheFarEndMaySpeakFirst(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		end := answering(t, network, func(c Stream) {
			_, _ = io.WriteString(c, "220 far\r\n")
			line := make([]byte, 6)
			_, _ = io.ReadFull(c, line)
			_, _ = fmt.Fprintf(c, "221 %q\r\n", line)
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		greeting := make([]byte, 9)
		if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "220 far\r\n" {
			t.Fatalf("greeting %q, %v", greeting, err)
		}
		_, _ = io.WriteString(c, "QUIT\r\n")
		if b, err := io.ReadAll(c); err != nil || string(b) != `221 "QUIT\r\n"`+"\r\n" {
			t.Errorf("then %q, %v", b, err)
		}
	})
}

func TestTheClientMaySpeakFirst(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		end := answering(t, network, func(c Stream) {
			line := make([]byte, 18)
			_, _ = io.ReadFull(c, line)
			_, _ = io.WriteString(c, "HTTP/1.0 200 "+string(line))
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || string(b) != "HTTP/1.0 200 GET / HTTP/1.0\r\n\r\n" {
			t.Errorf("answer %q, %v", b, err)
		}
	})
}

// gated is a Dial that waits for a word.
func gated(dial Dial) (Dial, func()) {
	gate := make(chan struct{})
	return func(ctx context.Context) (Stream, error) {
		select {
		case <-gate:
			return dial(ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}, func() { close(gate) }
}

func TestWhatTheClientSentBeforeTheDialWasDoneArrivesAllAndInOrder(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		sent := noise(7, 3<<20)
		got := make(chan digest, 1)
		end := answering(t, network, func(c Stream) {
			if s, _ := readSum(c, rounds(8)); s != sum(nil) { // else the tunnel gave it up
				got <- s
			}
		})
		dial, open := gated(via(t, end))
		c := call(t, serving(t, patient(), dial).addr)
		early := 16 << 10 // fits into the kernel's buffers: the client need not wait
		if _, err := c.Write(sent[:early]); err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() { // fills the buffers and waits in the middle of a write
			_, err := c.Write(sent[early:])
			_ = c.CloseWrite()
			wrote <- err
		}()
		open()
		if err := receive(t, "the client's writing", wrote); err != nil {
			t.Fatal(err)
		}
		if receive(t, "the far end", got) != sum(sent) {
			t.Error("the far end got other bytes than the client sent")
		}
	})
}

func TestAClientThatHasShutDownItsSendingSideStillGetsTheAnswer(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		answer := noise(9, 1<<20)
		end := answering(t, network, func(c Stream) {
			b, err := io.ReadAll(c) // returns at the client's end, not before
			if err == nil && string(b) == "question" {
				_ = inChunks(c, answer, rounds(10))
			}
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		_, _ = io.WriteString(c, "question")
		_ = c.CloseWrite()
		if s, err := readSum(c, rounds(11)); err != nil || s != sum(answer) {
			t.Errorf("the answer is not what was sent (%v)", err)
		}
	})
}

func TestAServerThatHasShutDownItsSendingSideStillGetsWhatTheClientSends(t *testing.T) {
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		mail := noise(12, 1<<20)
		got := make(chan digest, 1)
		end := answering(t, network, func(c Stream) {
			_, _ = io.WriteString(c, "all I say")
			_ = c.CloseWrite()
			if s, _ := readSum(c, rounds(13)); s != sum(nil) { // else the tunnel gave it up
				got <- s
			}
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		if b, err := io.ReadAll(c); err != nil || string(b) != "all I say" {
			t.Fatalf("%q, %v", b, err)
		}
		if err := inChunks(c, mail, rounds(14)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if receive(t, "the far end", got) != sum(mail) {
			t.Error("the far end got other bytes than the client sent")
		}
	})
}

// A client such as `nc -N` has ended its sending side before there is a
// connection for it.
func TestAClientThatShutsDownItsSendingSideWhileTheDialWaitsIsServed(t *testing.T) {
	for _, question := range []string{"", "question"} {
		t.Run(fmt.Sprintf("having sent %d bytes", len(question)), func(t *testing.T) {
			noLeaks(t)
			var asked atomic.Int32
			end := answering(t, "tcp", func(c Stream) {
				b, err := io.ReadAll(c)
				_, _ = fmt.Fprintf(c, "answer to %q, %v", b, err)
			})
			dial, open := gated(end.dial)
			f := patient()
			f.Gone = func(net.Conn) bool { asked.Add(1); return false }
			c := call(t, serving(t, f, dial).addr)
			_, _ = io.WriteString(c, question)
			_ = c.CloseWrite()
			until(t, "the forwarder has seen the client's end and asked who is there",
				func() bool { return asked.Load() >= 2 })
			open()
			want := fmt.Sprintf("answer to %q, <nil>", question)
			if b, err := io.ReadAll(c); err != nil || string(b) != want {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

func TestWithoutGoneAnEarlyShutDownIsNotTakenForLeaving(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", func(c Stream) {
		_, _ = io.Copy(io.Discard, c)
		_, _ = io.WriteString(c, "answer")
	})
	dial, open := gated(end.dial)
	c := call(t, serving(t, patient(), dial).addr)
	_ = c.CloseWrite()
	open()
	if b, err := io.ReadAll(c); err != nil || string(b) != "answer" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestASlowReaderGetsEverythingAndHoldsUpNobody(t *testing.T) {
	noLeaks(t)
	answer := noise(15, 48<<20) // more than all buffers on the way
	var whole atomic.Bool
	end := answering(t, "tcp", func(c Stream) {
		who := make([]byte, 1)
		_, _ = io.ReadFull(c, who)
		if who[0] == 'q' {
			_, _ = io.WriteString(c, "quick")
			return
		}
		_, err := c.Write(answer)
		whole.Store(err == nil)
	})
	r := serving(t, patient(), end.dial)
	slow := call(t, r.addr)
	_ = slow.SetReadBuffer(256 << 10)
	_, _ = io.WriteString(slow, "s")
	if _, err := io.ReadFull(slow, make([]byte, 1)); err != nil { // its answer is on the way
		t.Fatal(err)
	}
	quick := call(t, r.addr)
	_, _ = io.WriteString(quick, "q")
	if b, err := io.ReadAll(quick); err != nil || string(b) != "quick" {
		t.Errorf("the other client got %q, %v", b, err)
	}
	if whole.Load() {
		t.Error("the far end could get rid of everything though nobody reads it: who keeps it?")
	}
	if s, err := readSum(io.MultiReader(bytes.NewReader(answer[:1]), slow), rounds(16)); err != nil || s != sum(answer) {
		t.Errorf("the slow reader got something else (%v)", err)
	}
}

// Linux counts for a process the bytes of its read and write calls, and not
// those that splice(2) moves inside of the kernel: what the forwarder copies
// is not in the count, and what the test sends and reads is.
func TestBulkIsMovedBySpliceAndNotThroughOurMemory(t *testing.T) {
	before, ok := readCount()
	if !ok {
		t.Skip("no /proc/self/io with rchar here")
	}
	routes(t, func(t *testing.T, network string, via func(*testing.T, *farEnd) Dial) {
		const size = 16 << 20
		counted := make(chan int64, 1)
		end := answering(t, network, func(c Stream) {
			if n, _ := io.CopyN(struct{ io.Writer }{c}, struct{ io.Reader }{c}, size); n == 0 {
				return // a connection that the tunnel gave up
			}
			_, _ = io.Copy(io.Discard, c)
			counted <- size
		})
		c := call(t, serving(t, patient(), via(t, end)).addr)
		before, _ = readCount()
		go func() {
			_, _ = c.Write(make([]byte, size))
			_ = c.CloseWrite()
		}()
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		receive(t, "the far end", counted)
		after, _ := readCount()
		// The far end and the client have read size bytes each.
		if extra := after - before - 2*size; extra > size/4 {
			t.Errorf("the forwarder has read %d bytes into our memory", extra)
		}
	})
}

func readCount() (n int64, ok bool) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if k, err := fmt.Sscanf(line, "rchar: %d", &n); k == 1 && err == nil {
			return n, true
		}
	}
	return 0, false
}
