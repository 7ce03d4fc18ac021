package forward

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoOtherMailBeginsInTheSecondHalfOfTheTimeToFinish is about programs that send mail
// after mail in one session (OpenSMTPD, Postfix): one that is cut off between its dot
// and the reply would be sent twice.
func TestNoOtherMailBeginsInTheSecondHalfOfTheTimeToFinish(t *testing.T) {
	const mail = "C: MAIL FROM:<a>\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x~.\nS: 250 accepted\n"
	for name, c := range map[string]struct {
		said string // when it gets late
		next string
		told bool
	}{
		"another mail":                        {"S: 220 far\n" + mail, "MAIL FROM:<a>\r\n", true},
		"another mail, up to its text":        {"S: 220 far\n" + mail, "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n", true},
		"the first mail":                      {"S: 220 far\n", "MAIL FROM:<a>\r\n", false},
		"another mail, up to its end":         {"S: 220 far\n" + mail, "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nBDAT 1 LAST\r\nx", false},
		"a mail that has begun":               {"S: 220 far\n" + strings.SplitAfter(mail, "250 ok\n")[0], "RCPT TO:<b>\r\n", false},
		"the dot, and another mail behind it": {"S: 220 far\n" + strings.SplitAfter(mail, "354 go\n")[0], "x\r\n.\r\nMAIL FROM:<a>\r\n", false},
		"QUIT":                                {"S: 220 far\n" + mail, "QUIT\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			f := patient()
			f.DrainTimeout = time.Hour
			client, ours := connected(t)
			theirs, server := connected(t)
			ctx, stop := context.WithCancel(t.Context())
			v := newVisit(ctx, f, ours, theirs, true)
			over := make(chan struct{})
			f.stats.working.Add(1)
			go func() { defer close(over); v.serve() }()
			steps(c.said, func(p []byte, fromClient bool) {
				from, to := client, server
				if !fromClient {
					from, to = server, client
				}
				_, _ = from.Write(p)
				says(t, to, string(p))
			})
			stop()
			until(t, "half of the time is over", func() bool {
				v.mu.Lock()
				defer v.mu.Unlock()
				if v.late.IsZero() {
					return false
				}
				v.late = v.late.Add(-time.Hour / 2)
				return true
			})
			_, _ = io.WriteString(client, c.next)
			if !c.told {
				says(t, server, c.next)
				client.Close()
			} else if b, err := io.ReadAll(server); len(b) > 0 {
				t.Errorf("the server got %q, %v", b, err)
			} else {
				b, _ := io.ReadAll(client)
				is421(t, string(b), ErrStopping.Error())
				client.Close()
			}
			server.Close()
			receive(t, "the end of the visit", over)
		})
	}
}

func TestItIsLateForAnotherMailWhenHalfOfTheTimeToFinishIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ours := newWire()
		theirs, _ := newWire()
		ctx, stop := context.WithCancel(t.Context())
		v := newVisit(ctx, &Forwarder{DrainTimeout: 10 * time.Second}, ours, theirs, true)
		stop()
		synctest.Wait()
		if d := time.Until(v.late); d != 5*time.Second {
			t.Errorf("in %s", d)
		}
		v.cut.Stop()
	})
}

// connected is both ends of a connection.
func connected(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	a = call(t, l.Addr().String())
	b = must(l.Accept()).(*net.TCPConn)
	t.Cleanup(func() { b.Close() })
	_ = b.SetDeadline(time.Now().Add(enough))
	return a, b
}
