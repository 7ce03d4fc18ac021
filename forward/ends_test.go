package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
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
		for _, who := range []string{"server", "client"} {
			t.Run("of the "+who+", "+name, func(t *testing.T) {
				noLeaks(t)
				var log journal
				f := patient()
				f.Log = log.log()
				client, server, r := bothAtWork(t, f, "tcp", via)
				breaks, sees := server, Stream(client)
				if who == "client" {
					breaks, sees = sees, breaks
				}
				reset(breaks)
				if n, err := sees.Read(make([]byte, 1)); !isReset(err) {
					t.Errorf("the other one read %d bytes, %v", n, err)
				}
				r.stop()
				receive(t, "Serve's return", r.done)
				if want := `"end":"` + who + ` reset"`; name == "direct" && !log.has(want) {
					t.Errorf("no %s in the log: %s", want, &log)
				}
			})
		}
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
