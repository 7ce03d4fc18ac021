package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// A mailQueue is a mail program that tries until a mail is sent.
type mailQueue interface {
	Send(t testing.TB, from, to string, mail []byte)
	Left() int
	Log() string
}

// A moment is a mail server whose first session stops at a state: it says so, and
// goes no further.
type moment struct {
	state    string
	reached  chan struct{}
	over     chan struct{} // closed: it hangs up
	once     sync.Once
	sessions atomic.Int32
	accepted atomic.Int32
}

// states are the moments of a session at which a queue has to know whether its mail
// is accepted.
var states = []string{"in the text", "after the dot", "after its 250", "at QUIT"}

func (m *moment) serve(c net.Conn) {
	first := m.sessions.Add(1) == 1
	r := bufio.NewReader(c)
	stops := func(state string) bool {
		if !first || state != m.state {
			return false
		}
		m.once.Do(func() { close(m.reached) })
		<-m.over
		return true
	}
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 far.test ESMTP")
	for text := false; ; {
		s, err := r.ReadString('\n')
		verb := strings.ToUpper(strings.TrimSpace(s))
		switch {
		case err != nil:
			return
		case text && s != ".\r\n":
			if stops("in the text") {
				return
			}
		case text:
			if stops("after the dot") {
				return
			}
			text = false
			m.accepted.Add(1)
			say("250 accepted")
			if stops("after its 250") {
				return
			}
		case verb == "DATA":
			text = true
			say("354 go on")
		case verb == "QUIT":
			if !stops("at QUIT") {
				say("221 bye")
			}
			return
		case strings.HasPrefix(verb, "EHLO"):
			say("250-far.test\r\n250 PIPELINING")
		default:
			say("250 ok")
		}
	}
}

// ends are why the session ends at that moment. The far end hangs up after it.
var ends = map[string]func(t *testing.T, m *testbed.Minimail) *testbed.Minimail{
	"the far end closes": func(_ *testing.T, m *testbed.Minimail) *testbed.Minimail { return m },
	"the tunnel is lost": func(t *testing.T, m *testbed.Minimail) *testbed.Minimail {
		_ = syscall.Kill(m.TheSSH(t), syscall.SIGKILL)
		m.Log.Wait(t, "the tunnel has ended by itself") // and not by a countdown
		return m
	},
	"minimail stops, and is started": func(t *testing.T, m *testbed.Minimail) *testbed.Minimail {
		m.End(t, syscall.SIGTERM)
		next := &testbed.Minimail{Cmd: exec.Command(m.Cmd.Path, m.Cmd.Args[1:]...), Port: m.Port, Near: m.Near, Config: m.Config, Pid: m.Pid}
		next.Start(t)
		return next
	},
}

// TestAQueueTriesAgainExactlyIfItsMailIsNotAccepted is for programs that keep a mail:
// what DESIGN's table has them told must have them send it again if, and only if, the
// server has not accepted it.
func TestAQueueTriesAgainExactlyIfItsMailIsNotAccepted(t *testing.T) {
	t.Parallel()
	for program, c := range map[string]struct {
		start    func(t *testing.T, unpacked string, port int) mailQueue
		accepted string // what its log has of a mail that was
	}{
		"nullmailer": {func(t *testing.T, dir string, port int) mailQueue { return testbed.NewNullmailer(t, dir, port) }, "smtp: Succeeded"},
		"postfix":    {func(t *testing.T, dir string, port int) mailQueue { return testbed.NewPostfix(t, dir, port) }, "status=sent"},
	} {
		unpacked := testbed.Unpacked(t, program)
		for cause, end := range ends {
			t.Run(program+", "+cause, func(t *testing.T) {
				t.Parallel()
				h := testbed.NewHost(t)
				for _, state := range states {
					far := &moment{state: state, reached: make(chan struct{}), over: make(chan struct{})}
					m := h.Minimail(t, testbed.Listen(t, far.serve), "--drain", "0", "--wait", "60s", "--idle", "10s")
					q := c.start(t, unpacked, m.Port)
					q.Send(t, "a@near.test", "b@far.test", fmt.Appendf(nil, "From: a@near.test\nTo: b@far.test\nSubject: %s\n\n%s", state, strings.Repeat("line\n", 100)))
					<-far.reached
					taken := slices.Index(states, state) >= slices.Index(states, "after its 250")
					if taken { // what is on the way to it may be lost otherwise, and it would have to try again
						testbed.Eventually(t, "it knows that its mail is accepted", func() bool {
							return strings.Contains(q.Log(), c.accepted) || program == "nullmailer" && state == "at QUIT"
						})
					}
					m = end(t, m)
					close(far.over)
					testbed.Eventually(t, "its queue is empty", func() bool { return q.Left() == 0 })
					want := int32(2)
					if taken {
						want = 1
					}
					if got := far.sessions.Load(); got != want || far.accepted.Load() != 1 {
						t.Errorf("%s: %d sessions, want %d, and %d mails are accepted, want 1; its log:\n%s\nminimail's:\n%s", state, got, want, far.accepted.Load(), q.Log(), m.Log)
					}
				}
			})
		}
	}
}

// TestAReporterReportsAFailureExactlyIfItsMailIsNotAccepted is the same for programs
// that try once, and tell.
func TestAReporterReportsAFailureExactlyIfItsMailIsNotAccepted(t *testing.T) {
	t.Parallel()
	for cause, end := range ends {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			for name, line := range reporters(t) {
				for _, state := range states {
					if state == "after its 250" && cause != "the far end closes" {
						continue // only its QUIT tells that it has got that
					}
					far := &moment{state: state, reached: make(chan struct{}), over: make(chan struct{})}
					m := h.Minimail(t, testbed.Listen(t, far.serve), "--drain", "0", "--wait", "60s", "--idle", "10s")
					var said testbed.Words
					cmd := reporter(m, line)
					cmd.Stdout, cmd.Stderr = &said, &said
					if err := cmd.Start(); err != nil {
						t.Fatal(err)
					}
					<-far.reached
					m = end(t, m)
					close(far.over)
					if err := cmd.Wait(); (err == nil) != (far.accepted.Load() == 1) {
						t.Errorf("%s, %s: %v, but %d mails are accepted; it says:\n%s\nminimail's log:\n%s", name, state, err, far.accepted.Load(), &said, m.Log)
					}
				}
			}
		})
	}
}
