package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// bothAtWork returns a client and its server once a byte has gone each way.
func bothAtWork(t *testing.T, f *Forwarder, network string, via func(*testing.T, *farEnd) Dial) (client *net.TCPConn, server Stream, r *run) {
	t.Helper()
	servers, over := make(chan Stream), make(chan struct{})
	end := answering(t, network, func(c Stream) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return // somebody else's, who has mistaken the port
		}
		_, _ = c.Write([]byte("s"))
		select {
		case servers <- c:
			<-over
		case <-over:
		}
	})
	t.Cleanup(func() { close(over) })
	r = serving(t, f, via(t, end))
	client = call(t, r.addr)
	_, _ = client.Write([]byte("c"))
	server = receive(t, "the far end's connection", servers)
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return client, server, r
}

func straight(_ *testing.T, e *farEnd) Dial { return e.dial }

func viaTunnel(t *testing.T, e *farEnd) Dial { return e.throughTunnel(t) }

var tcpRoutes = map[string]func(*testing.T, *farEnd) Dial{"direct": straight, "tunnel": viaTunnel}

func TestAResetOnOneSideIsAnErrorOnTheOther(t *testing.T) {
	for name, via := range tcpRoutes {
		t.Run("of the server, "+name, func(t *testing.T) {
			noLeaks(t)
			client, server, _ := bothAtWork(t, patient(), "tcp", via)
			reset(server)
			if n, err := client.Read(make([]byte, 1)); !isReset(err) {
				t.Errorf("the client read %d bytes, %v", n, err)
			}
		})
		t.Run("of the client, "+name, func(t *testing.T) {
			noLeaks(t)
			client, server, _ := bothAtWork(t, patient(), "tcp", via)
			reset(client)
			if n, err := server.Read(make([]byte, 1)); !isReset(err) {
				t.Errorf("the server read %d bytes, %v", n, err)
			}
		})
	}
}

// Two directions share one socket, and the kernel tells a reset to whichever
// asks first; the other is told of a clean end. That must not be passed on.
func TestAResetWhileTheOtherSideSendsIsNotTakenForACleanEnd(t *testing.T) {
	const often = 30 // it is a race
	for name, via := range tcpRoutes {
		t.Run("of the server, "+name, func(t *testing.T) {
			noLeaks(t)
			for range often {
				client, server, _ := bothAtWork(t, patient(), "tcp", via)
				checkResetUnderLoad(t, server, client)
			}
		})
		t.Run("of the client, "+name, func(t *testing.T) {
			noLeaks(t)
			for range often {
				client, server, _ := bothAtWork(t, patient(), "tcp", via)
				checkResetUnderLoad(t, client, server)
			}
		})
	}
}

// checkResetUnderLoad lets one side send until it cannot any more, resets the
// other one in the middle, and looks how the sender learns of it: its reading
// or its writing must fail with ECONNRESET. After an orderly end, reading gives
// io.EOF and writing EPIPE (Linux, tcp_reset: the latter in CLOSE_WAIT).
func checkResetUnderLoad(t *testing.T, breaking, sending Stream) {
	t.Helper()
	wrote, read := make(chan error, 1), make(chan error, 1)
	go func() {
		b := make([]byte, 32<<10)
		for {
			if _, err := sending.Write(b); err != nil {
				wrote <- err
				return
			}
		}
	}()
	go func() { _, err := sending.Read(make([]byte, 1)); read <- err }()
	if _, err := io.CopyN(io.Discard, breaking, 256<<10); err != nil {
		t.Fatal(err)
	}
	reset(breaking)
	r, w := receive(t, "the end of the reading", read), receive(t, "the end of the writing", wrote)
	if !errors.Is(r, syscall.ECONNRESET) && !errors.Is(w, syscall.ECONNRESET) {
		t.Fatalf("the reset came as a clean end: reading: %v; writing: %v", r, w)
	}
}

func TestAServerThatAnswersAndLeavesWhileTheClientStillSendsHasAnswered(t *testing.T) {
	answer := noise(20, 48<<10)
	for name, hurry := range map[string]bool{"with unread bytes": true, "having read what was there": false} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			end := answering(t, "tcp", func(c Stream) {
				_, _ = io.ReadFull(c, make([]byte, 100))
				_, _ = c.Write(answer)
				if !hurry {
					_ = c.CloseWrite()
					_, _ = io.CopyN(io.Discard, c, 1<<20)
				}
			}) // and closes: with unread bytes that is a reset
			for range 30 {
				c := call(t, serving(t, patient(), end.dial).addr)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					b := make([]byte, 4<<10)
					for {
						if _, err := c.Write(b); err != nil {
							return
						}
					}
				}()
				got := make([]byte, len(answer))
				if n, err := io.ReadFull(c, got); err != nil || sum(got) != sum(answer) {
					t.Fatalf("%d of %d bytes of the answer, %v", n, len(answer), err)
				}
				receive(t, "the client's failing write", sent)
			}
		})
	}
}

// waiting is a Dial that never succeeds; it tells what its ctx ended of.
func waiting(causes chan<- error) Dial {
	return func(ctx context.Context) (Stream, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, context.Cause(ctx)
	}
}

func TestAClientThatResetsWhileItsDialWaitsEndsTheDial(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "with bytes under way": "question"} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			var log journal
			causes, refused := make(chan error, 1), make(chan error, 1)
			f := patient()
			f.Log = log.log()
			f.OnDialError = func(c Stream, err error) { c.Close(); refused <- err }
			r := serving(t, f, waiting(causes))
			c := call(t, r.addr)
			_, _ = io.WriteString(c, sent)
			reset(c)
			if err := receive(t, "the end of the dial", causes); !errors.Is(err, ErrClientLeft) {
				t.Errorf("the dial's cause is %v", err)
			}
			r.stop()
			receive(t, "Serve's return", r.done)
			if len(refused) > 0 {
				t.Errorf("a client that has left was refused: %v", <-refused)
			}
			if !log.has("client left before it was served") {
				t.Errorf("not in the log:\n%s", &log)
			}
		})
	}
}

func TestAClientThatClosesItsSocketWhileItsDialWaitsEndsTheDial(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "with bytes under way": "question"} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			var left atomic.Bool
			var early atomic.Int32
			causes := make(chan error, 1)
			f := patient()
			f.Gone = func(net.Conn) bool {
				if !left.Load() {
					early.Add(1)
				}
				return left.Load()
			}
			c := call(t, serving(t, f, waiting(causes)).addr)
			_, _ = io.WriteString(c, sent)
			_ = c.CloseWrite()
			until(t, "the forwarder has asked twice", func() bool { return early.Load() >= 2 })
			if len(causes) > 0 {
				t.Fatal("the dial was given up while the client was there")
			}
			left.Store(true)
			c.Close()
			if err := receive(t, "the end of the dial", causes); !errors.Is(err, ErrClientLeft) {
				t.Errorf("the dial's cause is %v", err)
			}
		})
	}
}

func TestBytesOfAClientThatIsThereAreNotTakenForLeaving(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", func(c Stream) { _, _ = io.Copy(c, c) })
	dial, open := gated(end.dial)
	f := patient()
	f.Gone = func(net.Conn) bool { t.Error("asked about a client that has not ended"); return false }
	c := call(t, serving(t, f, dial).addr)
	for range 50 { // each wakes the watcher
		_, _ = c.Write([]byte("x"))
	}
	time.Sleep(4 * watchAfter) // it is watched by now, or it will be
	open()
	if _, err := io.ReadFull(c, make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
}

func TestWhenPatienceIsOverOnDialErrorGetsTheDialsOwnError(t *testing.T) {
	noLeaks(t)
	why := errors.New("no route")
	causes, refused := make(chan error, 1), make(chan error, 1)
	f := &Forwarder{DialTimeout: time.Millisecond}
	f.OnDialError = func(c Stream, err error) {
		refused <- err
		_, _ = io.WriteString(c, "sorry")
		c.Close()
	}
	r := serving(t, f, func(ctx context.Context) (Stream, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, fmt.Errorf("in vain: %w", why)
	})
	b, err := io.ReadAll(call(t, r.addr))
	if string(b) != "sorry" || err != nil {
		t.Errorf("the client got %q, %v", b, err)
	}
	if err := receive(t, "the dial", causes); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the dial's cause is %v", err)
	}
	if err := receive(t, "the refusal", refused); !errors.Is(err, why) {
		t.Errorf("refused because of %v", err)
	}
}

func TestWithoutOnDialErrorARefusedClientSeesAReset(t *testing.T) {
	noLeaks(t)
	called := make(chan struct{}) // a reset at once may fail the client's connect
	r := serving(t, patient(), func(context.Context) (Stream, error) { <-called; return nil, errors.New("no") })
	c := call(t, r.addr)
	close(called)
	if n, err := c.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestAllClientsThatWaitWhenWeStopAreToldSo(t *testing.T) {
	noLeaks(t)
	const waitingForAPlace = 4 // one of them in Serve's hands, the others in the kernel's queue
	causes, refused := make(chan error, 1), make(chan error, 1+waitingForAPlace)
	f := patient()
	f.MaxClients = 1
	f.OnDialError = func(c Stream, err error) { c.Close(); refused <- err }
	dialing := make(chan struct{}, 1+waitingForAPlace)
	wait := waiting(causes)
	r := serving(t, f, func(ctx context.Context) (Stream, error) {
		dialing <- struct{}{}
		return wait(ctx)
	})
	call(t, r.addr) // waits for its dial
	receive(t, "the first client's dial", dialing)
	for range waitingForAPlace {
		call(t, r.addr)
	}
	r.stop()
	if err := receive(t, "the end of the dial", causes); !errors.Is(err, ErrStopping) {
		t.Errorf("the dial's cause is %v", err)
	}
	for range 1 + waitingForAPlace {
		if err := receive(t, "a refusal", refused); !errors.Is(err, ErrStopping) {
			t.Errorf("refused because of %v", err)
		}
	}
	receive(t, "Serve's return", r.done)
	if r.err != nil {
		t.Errorf("Serve returned %v", r.err)
	}
	if len(dialing) > 0 {
		t.Error("a client was dialed for when we had stopped already")
	}
}

// refusesConnections dials as often as needed: somebody else's port is not
// refused in between.
func refusesConnections(t *testing.T, addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestAClientAtWorkMayFinishWhenWeStopAndNobodyElseGetsIn(t *testing.T) {
	noLeaks(t)
	f := patient()
	f.DrainTimeout = time.Hour
	client, server, r := bothAtWork(t, f, "tcp", straight)
	r.stop()
	until(t, "nobody listens", func() bool { return refusesConnections(t, r.addr) })
	for range 3 {
		_, _ = client.Write([]byte("mail"))
		b := make([]byte, 4)
		if _, err := io.ReadFull(server, b); err != nil || string(b) != "mail" {
			t.Fatalf("the server got %q, %v", b, err)
		}
		_, _ = server.Write([]byte("250!"))
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "250!" {
			t.Fatalf("the client got %q, %v", b, err)
		}
	}
	select {
	case <-r.done:
		t.Fatal("Serve has not waited for its client")
	default:
	}
	_ = client.CloseWrite()
	_ = server.CloseWrite()
	receive(t, "Serve's return", r.done)
	if r.err != nil {
		t.Errorf("Serve returned %v", r.err)
	}
}

func TestAClientThatDoesNotFinishIsCutOffAndSeesAnError(t *testing.T) {
	for _, drain := range []time.Duration{0, time.Millisecond} {
		t.Run(drain.String(), func(t *testing.T) {
			noLeaks(t)
			var log journal
			f := patient()
			f.DrainTimeout, f.Log = drain, log.log()
			client, server, r := bothAtWork(t, f, "tcp", straight)
			r.stop()
			if n, err := client.Read(make([]byte, 1)); !isReset(err) {
				t.Errorf("the client read %d bytes, %v: half a mail must not look like a whole one", n, err)
			}
			if n, err := server.Read(make([]byte, 1)); err == nil {
				t.Errorf("the server read %d bytes", n)
			}
			receive(t, "Serve's return", r.done)
			if !log.has(`"end":"cut off"`) {
				t.Errorf("not in the log:\n%s", &log)
			}
		})
	}
}

func TestASilentServerWhoseClientHasClosedItsSocketIsCutOffAfterTheGrace(t *testing.T) {
	noLeaks(t)
	var left atomic.Bool
	f := patient()
	f.DrainTimeout = time.Millisecond
	f.Gone = func(net.Conn) bool { return left.Load() }
	client, server, _ := bothAtWork(t, f, "tcp", straight)
	left.Store(true)
	client.Close()
	if n, err := server.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
	// What the server sees first is the client's orderly end; that it is cut
	// off shows when it cannot write any more.
	until(t, "the server is cut off", func() bool {
		_, err := server.Write([]byte("x"))
		return err != nil
	})
}

func TestASilentServerWhoseClientStillListensIsNotCutOff(t *testing.T) {
	noLeaks(t)
	var asked atomic.Int32
	f := patient() // DrainTimeout zero: a cut would come at once
	f.Gone = func(net.Conn) bool { asked.Add(1); return false }
	client, server, _ := bothAtWork(t, f, "tcp", straight)
	_ = client.CloseWrite()
	until(t, "the forwarder has asked twice", func() bool { return asked.Load() >= 2 })
	_, _ = io.WriteString(server, "late answer")
	_ = server.CloseWrite()
	if b, err := io.ReadAll(client); err != nil || string(b) != "late answer" {
		t.Errorf("%q, %v", b, err)
	}
}

// Listeners of package net accept multipath TCP where the kernel has it, and
// there an end is not the FIN of one TCP connection.
func TestAnOrderlyEndOfAMultipathClientIsNotTakenForAReset(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", func(c Stream) {
		b, err := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "%d %v", len(b), err)
	})
	reads := make(chan error, 1)
	serverFirst := answering(t, "tcp", func(c Stream) {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		_, err := io.ReadAll(c)
		reads <- err
	})
	var d net.Dialer
	d.SetMultipathTCP(true)
	multipath := func(addr string) *net.TCPConn {
		c := must(d.Dial("tcp", addr)).(*net.TCPConn)
		if is, err := c.MultipathTCP(); !is || err != nil {
			c.Close()
			t.Skip("no multipath TCP here:", err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(enough))
		return c
	}
	first, second := serving(t, patient(), end.dial), serving(t, patient(), serverFirst.dial)
	for range 20 {
		c := multipath(first.addr)
		_, _ = io.WriteString(c, "question")
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "8 <nil>" {
			t.Errorf("%q, %v", b, err)
		}
		c = multipath(second.addr)
		if b, err := io.ReadAll(c); err != nil || string(b) != "bye" {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
		if err := receive(t, "the server's end", reads); err != nil {
			t.Errorf("the server read: %v", err)
		}
	}
}
