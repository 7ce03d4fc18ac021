package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// servingSMTP is serving, with SMTP's manners.
func servingSMTP(t testing.TB, f *Forwarder, dial Dial) *run {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.Background())
	r := &run{addr: l.Addr().String(), stop: stop, done: make(chan struct{})}
	go func() { defer close(r.done); r.err = f.ServeSMTP(ctx, l, dial) }()
	t.Cleanup(func() {
		stop()
		receive(t, "ServeSMTP's return", r.done)
	})
	return r
}

// is421 checks that text is one reply with the code 421 that has why in it.
func is421(t *testing.T, text, why string) {
	t.Helper()
	if !strings.HasPrefix(text, "421 ") || !strings.HasSuffix(text, "\r\n") || strings.Count(text, "\n") != 1 || !strings.Contains(text, why) {
		t.Errorf("not a 421 with %q: %q", why, text)
	}
}

func TestAMailClientThatCannotBeServedIsToldWhyThoughItHasSentSomething(t *testing.T) {
	noLeaks(t)
	gate := make(chan struct{})
	r := servingSMTP(t, patient(), func(context.Context) (Stream, error) {
		<-gate
		return nil, errors.New("ssh says\r\n250 no\x00 route \u2603")
	})
	c := call(t, r.addr)
	_, _ = io.WriteString(c, "EHLO me\r\n") // unread bytes turn a close into a reset
	close(gate)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	is421(t, string(b), "minimail: ssh says??250 no? route ?")
}

func TestAFarewellIsNeverLongerThanAReplyMayBe(t *testing.T) {
	s := reply421(errors.New(strings.Repeat("long ", 1000)))
	if len(s) != 512 {
		t.Errorf("%d bytes", len(s))
	}
	is421(t, s, "long")
}

func TestAMailClientThatWaitsWhenWeStopIsToldSo(t *testing.T) {
	noLeaks(t)
	dialing, causes := make(chan struct{}), make(chan error, 1)
	wait := waiting(causes)
	r := servingSMTP(t, patient(), func(ctx context.Context) (Stream, error) { close(dialing); return wait(ctx) })
	c := call(t, r.addr)
	receive(t, "the dial", dialing)
	r.stop()
	b, _ := io.ReadAll(c)
	is421(t, string(b), ErrStopping.Error())
}

func TestAMailSessionGoesThroughUntouched(t *testing.T) {
	noLeaks(t)
	mail := noise(30, 1<<20)
	end := answering(t, "tcp", func(c Stream) {
		_, _ = io.WriteString(c, "220 far\r\n")
		got := make([]byte, len(mail))
		if _, err := io.ReadFull(c, got); err != nil || sum(got) != sum(mail) {
			_, _ = io.WriteString(c, "554 other bytes\r\n")
			return
		}
		_, _ = io.WriteString(c, "250 OK\r\n221 bye\r\n")
	})
	c := call(t, servingSMTP(t, patient(), end.dial).addr)
	lines := bufio.NewReader(c)
	if s, err := lines.ReadString('\n'); s != "220 far\r\n" {
		t.Fatalf("%q, %v", s, err)
	}
	if err := inChunks(c, mail, rounds(31)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(lines); err != nil || string(b) != "250 OK\r\n221 bye\r\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAMailClientThatIsCutOffIsToldThatWeStop(t *testing.T) {
	noLeaks(t)
	over := make(chan struct{})
	end := answering(t, "tcp", func(c Stream) {
		_, _ = io.WriteString(c, "220 far\r\n")
		<-over
	})
	t.Cleanup(func() { close(over) })
	f := patient()
	f.DrainTimeout = time.Millisecond
	r := servingSMTP(t, f, end.dial)
	lines := bufio.NewReader(call(t, r.addr))
	if s, err := lines.ReadString('\n'); s != "220 far\r\n" {
		t.Fatalf("%q, %v", s, err)
	}
	r.stop()
	b, _ := io.ReadAll(lines)
	is421(t, string(b), ErrStopping.Error())
}

func TestAClientWhoseTunnelIsLostLearnsWhy(t *testing.T) {
	for _, smtp := range []bool{true, false} {
		t.Run(fmt.Sprintf("smtp %v", smtp), func(t *testing.T) {
			noLeaks(t)
			var log journal
			end := answering(t, "tcp", func(c Stream) { _, _ = io.WriteString(c, "220 far\r\n") })
			f := patient()
			f.Log = log.log()
			f.Gone = func(c net.Conn) bool { _, is := c.(lease); return is }
			dial := func(ctx context.Context) (Stream, error) {
				c, err := end.dial(ctx)
				if err != nil {
					return nil, err
				}
				return lease{c.(*net.TCPConn), errors.New("ssh: timeout")}, nil
			}
			serve := serving
			if smtp {
				serve = servingSMTP
			}
			dial, open := gated(dial) // a reset at once may fail the connect
			c := call(t, serve(t, f, dial).addr)
			open()
			b, err := io.ReadAll(c)
			rest, _ := strings.CutPrefix(string(b), "220 far\r\n")
			if smtp {
				is421(t, rest, "lost: ssh: timeout")
			} else if !isReset(err) {
				t.Errorf("%q, %v: must not look like a clean end", b, err)
			}
			until(t, "the end is in the log", func() bool { return log.has(`"end":"tunnel lost"`) })
		})
	}
}

func TestGreetedWaitsForTheServerAndTakesNoByte(t *testing.T) {
	noLeaks(t)
	speak := make(chan struct{})
	end := answering(t, "tcp", func(c Stream) { <-speak; _, _ = io.WriteString(c, "220 far\r\n") })
	c := must(end.dial(t.Context()))
	defer c.Close()
	heard := make(chan error, 1)
	go func() { heard <- Greeted(t.Context(), c) }()
	select {
	case err := <-heard:
		t.Fatalf("returned %v before the server had spoken", err)
	default:
	}
	close(speak)
	if err := receive(t, "Greeted's return", heard); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "220 far\r\n" {
		t.Errorf("left are %q, %v", b, err)
	}
}

func TestGreetedSaysThatAServerEndedWithoutAWord(t *testing.T) {
	for name, leave := range map[string]func(Stream){"orderly": func(c Stream) { c.Close() }, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			dialed := make(chan struct{}) // a reset at once may fail the connect
			end := answering(t, "tcp", func(c Stream) { <-dialed; leave(c) })
			c := must(end.dial(t.Context()))
			close(dialed)
			defer c.Close()
			if err := Greeted(t.Context(), c); !errors.Is(err, errNoGreeting) {
				t.Error(err)
			}
		})
	}
}

func TestGreetedEndsWithItsContext(t *testing.T) {
	noLeaks(t)
	over := make(chan struct{})
	end := answering(t, "tcp", func(Stream) { <-over })
	t.Cleanup(func() { close(over) })
	c := must(end.dial(t.Context()))
	defer c.Close()
	ctx, stop := context.WithCancel(t.Context())
	heard := make(chan error, 1)
	go func() { heard <- Greeted(ctx, c) }()
	stop()
	if err := receive(t, "Greeted's return", heard); err == nil || errors.Is(err, errNoGreeting) {
		t.Errorf("a silent server: %v", err)
	}
}
