package system

import (
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"minimail/internal/testbed"
	"minimail/internal/testbed/link"
)

// packets are what goes over a link, as the near side sees it: the bytes that
// each TCP packet brings, negative if they come from the host.
type packets struct {
	mu  sync.Mutex
	all []int
}

func (p *packets) see(out bool, ip []byte) {
	if ip[9] != 6 { // TCP
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	header := int(ip[0]&15) * 4
	size := int(binary.BigEndian.Uint16(ip[2:])) - header - int(ip[header+12]>>4)*4
	switch {
	case out && size > 0: // and not a mere acknowledgement
		p.all = append(p.all, size)
	case !out:
		p.all = append(p.all, -size)
	}
}

// goTogether reports whether NEWKEYS has left with the next message, in one login.
func (p *packets) goTogether() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, size := range p.all[:len(p.all)-1] {
		if size == 16 && p.all[i+1] > 0 {
			return true
		}
	}
	return false
}

// A login is hurried while it takes place, whoever has the connection: ssh's
// NEWKEYS, of 16 bytes, and its next message leave together. The link is so
// long that nothing can come from the host in between.
func TestALoginDoesNotWaitForTheAcknowledgementOfNEWKEYS(t *testing.T) {
	for name, lines := range map[string][]string{
		"by ssh itself":  nil,
		"by a ProxyJump": {"ProxyJump hop", "Host hop far"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, h, far := testbed.NewLongHost(t, link.Conditions{Delay: 100 * time.Millisecond}, lines...)
			p := new(packets)
			l.Near.Watch(p.see)
			_ = l.Near.Do(func() error {
				m := h.Minimail(t, far)
				m.Greets(t)
				for tries := 1; tries < 3 && !p.goTogether(); tries++ { // a busy machine's minimail may come too late
					m.Down(t)
					m.Greets(t)
				}
				return nil
			})
			if !p.goTogether() {
				p.mu.Lock()
				defer p.mu.Unlock()
				t.Errorf("after NEWKEYS it waits: %v", p.all)
			}
		})
	}
}

func TestFault42NobodyMayTouchSSHsSockets(t *testing.T) {
	t.Parallel()
	testbed.NeedProgram(t, "strace")
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--idle", "1h")
	calls := filepath.Join(testbed.PublicDir(t), "calls")
	m.Cmd.Args = append([]string{"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", calls, "-e", "trace=pidfd_getfd", "-e", "inject=pidfd_getfd:error=EPERM",
		m.Cmd.Path}, m.Cmd.Args[1:]...)
	m.Cmd.Path, _ = exec.LookPath("strace")
	m.Start(t)
	for range 3 {
		m.Greets(t)
	}
	// In the first 100 ms a refusal may be execve's.
	if n := strings.Count(testbed.Read(t, calls), "(INJECTED)"); n < 1 || n > 15 {
		t.Errorf("tried %d times, want some at the launch and then none", n)
	}
}
