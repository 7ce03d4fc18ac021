package system

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// What mail programs make of a session that ends before its time. forward's
// cells_test.go has all states and causes; here are those that programs that
// report, and tell their exit status, get wrong most easily.

// A breaker is a mail server that calls at each command, and hangs up where that
// returns true.
func breaker(t *testing.T, accepted *atomic.Int32, at func(verb string) bool) string {
	return testbed.Listen(t, func(c net.Conn) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			testbed.SpeakSMTP(server, func(string) { accepted.Add(1) })
		}()
		go func() { _, _ = io.Copy(c, client); c.Close() }()
		defer client.Close()
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil || at(strings.ToUpper(strings.TrimSpace(line))) {
				return
			}
			if _, err := io.WriteString(client, line); err != nil {
				return
			}
		}
	})
}

// with is Python's shortest way to send a mail.
const with = `import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=60) as s:
    s.sendmail("a@near.test", ["b@far.test"], "Subject: x\r\n\r\nhello\r\n")
    print("accepted", flush=True)
    sys.stdin.readline()
`

// reporters are command lines that send a mail to $PORT.
func reporters(t *testing.T) map[string]string {
	t.Helper()
	testbed.NeedProgram(t, "python3", "msmtp", "curl")
	dir := testbed.PublicDir(t)
	testbed.Write(t, filepath.Join(dir, "with.py"), with)
	send := strings.Replace(testbed.Read(t, "docs/mail/send.py"), `"localhost"`, `"127.0.0.1", os.environ["PORT"]`, 1)
	testbed.Write(t, filepath.Join(dir, "send.py"), strings.Replace(send, "import smtplib", "import os\nimport smtplib", 1))
	return map[string]string{
		"smtplib's with": "python3 " + dir + "/with.py $PORT </dev/null",
		"send.py":        "python3 " + dir + "/send.py b@far.test x </dev/null",
		"msmtp":          `printf 'Subject: x\n\nhello\n' | msmtp --file=/dev/null --host=127.0.0.1 --port=$PORT --from=a@near.test b@far.test`,
		"curl":           `printf 'Subject: x\r\n\r\nhello\r\n' | curl -sS --mail-from a@near.test --mail-rcpt b@far.test -T - smtp://127.0.0.1:$PORT/me`,
	}
}

func reporter(m *testbed.Minimail, line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(m.Port))
	return cmd
}

func TestAnAcceptedMailIsNotReportedAsNotSent(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"the far server hangs up at QUIT": false, "ssh is killed at QUIT": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			var m *testbed.Minimail
			var accepted atomic.Int32
			m = h.Minimail(t, breaker(t, &accepted, func(verb string) bool {
				if verb == "QUIT" && kill {
					_ = syscall.Kill(m.TheSSH(t), syscall.SIGKILL)
				}
				return verb == "QUIT"
			}))
			n := int32(0)
			for name, line := range reporters(t) {
				out, err := reporter(m, line).CombinedOutput()
				if n++; err != nil || accepted.Load() != n {
					t.Errorf("%s: %v, with %d mails of %d accepted:\n%s", name, err, accepted.Load(), n, out)
				}
			}
		})
	}
}

func TestAStopAfterAnAcceptedMailIsNotReportedAsAFailure(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--drain", "0")
	cmd := reporter(m, strings.TrimSuffix(reporters(t)["smtplib's with"], " </dev/null"))
	stay, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said testbed.Words
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said.Wait(t, "accepted")
	m.End(t, syscall.SIGTERM)
	stay.Close() // now it says QUIT
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v:\n%s", err, &said)
	}
}

func TestAMailThatIsNotSentIsReportedWithTheReason(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"MAIL", "RCPT", "DATA"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			var accepted atomic.Int32
			m := h.Minimail(t, breaker(t, &accepted, func(verb string) bool { return strings.HasPrefix(verb, at) }))
			for name, line := range reporters(t) {
				out, err := reporter(m, line).CombinedOutput()
				told := strings.Contains(string(out), "connection to the mail server was lost") || name == "curl" && strings.Contains(string(out), "421")
				if err == nil || !told || accepted.Load() > 0 {
					t.Errorf("%s: %v:\n%s", name, err, out)
				}
			}
		})
	}
}
