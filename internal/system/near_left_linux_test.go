package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// wrongServer is a mail server that no client of ours may talk to.
func wrongServer(t *testing.T) string {
	return testbed.Listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 the wrong one\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
}

// leaveOver has an ssh of minimail's user go into the background, with a forward
// of its own. It returns how to end it.
func leaveOver(t *testing.T, h *testbed.Host, near, far string) (end func()) {
	t.Helper()
	forward := near + ":" + far
	testbed.Run(t, "setpriv", "--reuid="+testbed.RunAs, "--regid=nogroup", "--clear-groups", "ssh", "-f", "-N",
		"-F", h.Path("ssh_config"), "-o", "StreamLocalBindUnlink=yes", "-o", "ExitOnForwardFailure=yes", "-L", forward, "far")
	end = func() {
		for _, pid := range testbed.CommandsWith("-L\x00" + forward + "\x00far") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	t.Cleanup(end)
	return end
}

// TestALeftOverSSHIsNeverUsed: it listens, and answers, and a new launch of ours
// has it in its way; at the first try, and at each that follows.
func TestALeftOverSSHIsNeverUsed(t *testing.T) {
	tries := testbed.Long(5, 200)
	t.Run("port", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "400ms")
		end := leaveOver(t, h, strconv.Itoa(m.Near), wrongServer(t))
		m.Start(t)
		for range tries {
			m.Refuses(t, `(belongs to another|is held by) ssh, pid \d+`)
			m.Forgets(t)
		}
		end()
		m.Serves(t)
	})
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		h := testbed.NewHost(t)
		m := h.Prepare(t, testbed.MailServer(t, nil))
		dir := testbed.PublicDir(t)
		testbed.GiveTo(t, dir, testbed.RunAs)
		near, wrong := filepath.Join(dir, "near"), wrongServer(t)
		nearAt(m, near)
		m.Start(t)
		for range tries { // ours takes the path from it each time
			end := leaveOver(t, h, near, wrong)
			if got := m.Greeting(t); !strings.HasPrefix(got, "220 far.test") {
				t.Fatalf("a client got %q", got)
			}
			m.Down(t)
			end()
		}
		m.Log.Wait(t, "a near end was not used.* is held by uid .*, to whom pid \\d+, which has ended, has left it")
	})
}

// TestAnSSHThatAWrapperHasDetachedGoesWithItsLaunch: at the countdown's end, at a
// stop, and with check's trial.
func TestAnSSHThatAWrapperHasDetachedGoesWithItsLaunch(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	wrapper := testbed.Script(t, "setsid -w /usr/bin/ssh \"$@\"\n")
	m := h.Prepare(t, testbed.MailServer(t, nil), "--ssh", wrapper)
	if c := checkOf(t, m); c.code != 0 {
		t.Errorf("check: %+v", c)
	}
	m.NobodyLeft(t)
	m.Start(t)
	m.Greets(t)
	m.Log.Wait(t, "the tunnel is closed")
	m.NobodyLeft(t)
	c := m.Dial(t) // stays, or the tunnel might be closing already
	testbed.ReadLine(t, bufio.NewReader(c))
	if len(m.SSH()) != 2 {
		t.Errorf("the wrapper and ssh: %v", m.SSH())
	}
	c.Close()
	m.End(t, syscall.SIGTERM)
	m.NobodyLeft(t)
}

// TestAWrappersSSHThatOutlivesMinimailIsEnded: when minimail is killed, the kernel
// ends only what minimail has started itself.
func TestAWrappersSSHThatOutlivesMinimailIsEnded(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	wrapper := testbed.Script(t, "/usr/bin/ssh \"$@\"\n")
	far := testbed.MailServer(t, nil)
	m := h.Prepare(t, far, "--ssh", wrapper, "--idle", "1h")
	near := m.Near
	m.Start(t)
	m.Greets(t)
	if len(m.SSH()) != 2 {
		t.Fatalf("the wrapper and ssh: %v", m.SSH())
	}
	_ = m.Cmd.Process.Kill()
	testbed.Eventually(t, "only ssh is left", func() bool { return len(m.SSH()) == 1 })
	before := m.SSH()[0]

	next := h.Prepare(t, far, "--ssh", wrapper)
	next.Cmd.Args[slices.Index(next.Cmd.Args, "--forward")+1] = fmt.Sprintf("%d:%d:%s", next.Port, near, far)
	next.Start(t)
	next.Serves(t)
	next.Log.Wait(t, fmt.Sprintf("pid %d, .*left behind by an earlier launch", before))
	if slices.Contains(m.SSH(), before) {
		t.Error("the old ssh still runs")
	}
}
