package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

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

// A slow listener is that of a machine which is busy with others before each Accept.
type slowListener struct {
	*net.TCPListener
	stopped atomic.Bool
}

func (l *slowListener) Accept() (net.Conn, error) {
	if l.stopped.Load() {
		time.Sleep(2 * lastCall)
	}
	return l.TCPListener.Accept()
}

func (l *slowListener) SetDeadline(at time.Time) error {
	err := l.TCPListener.SetDeadline(at)
	l.stopped.Store(true)
	return err
}

func TestAllClientsInTheQueueWhenWeStopAreToldSoThoughWeAreSlow(t *testing.T) {
	noLeaks(t)
	const clients = 5
	refused := make(chan error, clients)
	f := patient()
	f.OnDialError = func(c Stream, err error) { c.Close(); refused <- err }
	l := &slowListener{TCPListener: must(net.Listen("tcp", "127.0.0.1:0")).(*net.TCPListener)}
	for range clients {
		call(t, l.Addr().String())
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := f.Serve(ctx, l, waiting(make(chan error, clients))); err != nil {
		t.Error(err)
	}
	if len(refused) != clients {
		t.Errorf("%d of %d clients were refused", len(refused), clients)
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
