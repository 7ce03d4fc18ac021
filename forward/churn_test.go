package forward

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Clients come and go, in each of the ways in which they do, while the
// forwarder is stopped. Who has been greeted may finish; nobody else is kept.
func TestAStopInTheMiddleCutsOffNobodyWhoIsServed(t *testing.T) {
	noLeaks(t)
	end := answering(t, "tcp", echoes)
	f := patient()
	f.DrainTimeout = enough
	f.MaxClients = 40
	r := servingSMTP(t, f, end.throughTunnel(t))
	var all sync.WaitGroup
	for worker := range 60 {
		all.Go(func() {
			rnd := rounds(plays.Add(1))
			for {
				c, err := dialTCP(r.addr)
				if err != nil {
					return
				}
				_ = c.SetDeadline(time.Now().Add(enough))
				greeting := make([]byte, 9)
				if n, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "220 far\r\n" {
					c.Close()
					if n > 0 && !strings.HasPrefix(string(greeting), "421 ") || isHang(err) {
						t.Errorf("worker %d: %q, %v", worker, greeting[:n], err)
					}
					return
				}
				for range rnd.IntN(6) {
					size := []int{1, 10, 1000, 16383, 16384, 16385, 100000}[rnd.IntN(7)]
					sent := strings.Repeat("y", size)
					go io.WriteString(c, sent)
					got := make([]byte, size)
					if n, err := io.ReadFull(c, got); err != nil || string(got) != sent {
						t.Errorf("worker %d: %d bytes of %d, %v", worker, n, size, err)
					}
					if rnd.IntN(3) == 0 {
						time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
					}
				}
				switch rnd.IntN(4) {
				case 0:
					reset(c)
				case 1:
					_ = c.CloseWrite()
					if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
						t.Errorf("worker %d: at the end %q, %v", worker, b, err)
					}
				}
				c.Close()
			}
		})
	}
	until(t, "many are served", func() bool { return f.Stats().Served > 300 })
	r.stop()
	all.Wait()
	receive(t, "Serve's return", r.done)
	if s := f.Stats(); s.Working != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// isHang tells a deadline of ours.
func isHang(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}
