package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

// Words from outside: a far server's, and those of somebody else's control
// socket.

// tricks are characters that do something to a terminal: an escape, one of C1,
// one that turns the direction of writing, one that nobody sees.
const tricks = "\x1b]0;title\x07\u009b31m\u202eevil\u2066\u200b"

func isClean(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c))
	})
}

// TestACheckStaysSmallWhateverTheFarEndSays: a greeting that has no end costs not
// much more than a short one.
func TestACheckStaysSmallWhateverTheFarEndSays(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	memory := func(far string) int64 { // in KiB
		m := h.Prepare(t, far)
		cmd := exec.Command(testbed.Program, append(m.Cmd.Args[1:], "check", "--json")...)
		out, _ := cmd.Output()
		if len(out) > 64<<10 {
			t.Errorf("it says %d bytes", len(out))
		}
		return int64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) // an int32 on some
	}
	short := memory(testbed.MailServer(t, nil))
	endless := memory(testbed.Listen(t, func(c net.Conn) {
		block := []byte("220 " + strings.Repeat("x", 64<<10))
		for range 1 << 13 { // 512 MB, unless it is hung up on
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}))
	if endless > short+200<<10 { // the race detector multiplies what is there
		t.Errorf("it took %d KiB, and %d of a short greeting", endless, short)
	}
}

func TestAGreetingIsCleanInAllForms(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.Listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 far"+tricks+"\r\n")
		_, _ = io.Copy(io.Discard, c)
	}))
	for _, form := range [][]string{nil, {"--nagios"}} {
		if c := checkOf(t, m, form...); !isClean(c.out) || !strings.Contains(c.out, "220 far?") {
			t.Errorf("%s: %q", form, c.out)
		}
	}
	var answer struct {
		Points []struct{ Point, Text string }
	}
	c := checkOf(t, m, "--json")
	if err := json.Unmarshal([]byte(c.out), &answer); err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, p := range answer.Points {
		seen = seen || p.Point == "far end" && strings.Contains(p.Text, "220 far?")
		if !isClean(p.Text) {
			t.Errorf("in JSON: %q", p.Text)
		}
	}
	if !seen {
		t.Errorf("no far end in %s", c.out)
	}
}

// TestAForgedControlSocketIsHeardCleanBoundedAndNotBelieved: me runs a program
// that is called like minimail, and holds his pid file as minimail does.
func TestAForgedControlSocketIsHeardCleanBoundedAndNotBelieved(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	for name, c := range map[string]struct{ answer, want string }{
		"escapes":     {`{"host":"far` + strings.NewReplacer("\x1b", `\u001b`, "\x07", `\u0007`).Replace(tricks) + `","tunnel":{"state":"up\u001b[31m"},"listening":["\u202e"]}`, "Tunnel:      up?[31m, to far?]0;title?"},
		"half":        {`{"tunnel":{"last_error":"x"}}`, "Clients:"},
		"a back-off":  {`{"tunnel":{"state":"backing off","until":"2030-01-01T00:00:00Z"}}`, "backing off"},
		"a forgery":   {`{"since":7}` + tricks, "it has not answered as minimail does: "},
		"nothing":     {``, "it has not answered as minimail does: "},
		"without end": {"endless", "it has answered without end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid := liar(t, c.answer, me, me)
			for _, form := range []string{"", "--json"} {
				cmd := exec.Command(testbed.Program, append(strings.Fields("status "+form), "--settings", os.DevNull, "-p", pid)...)
				out, err := cmd.CombinedOutput()
				if err != nil || len(out) > 64<<10 || !isClean(string(out)) || strings.Contains(string(out), "panic") {
					t.Errorf("%s: %v, %d bytes: %.2000q", form, err, len(out), out)
				}
				if form != "--json" && !strings.Contains(string(out), c.want) {
					t.Errorf("%s: no %q in %q", form, c.want, out)
				}
				var answer any
				if form == "--json" && (json.Unmarshal(out, &answer) != nil || !isClean(fmt.Sprint(answer))) {
					t.Errorf("%s: %q", form, out)
				}
			}
		})
	}
}

// TestAnAnswerIsFromRootOrTheOwnerOfThePidFile: evil listens beside me's pid file.
func TestAnAnswerIsFromRootOrTheOwnerOfThePidFile(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	pid := liar(t, `{"host":"evil.example.com"}`, me, intruder)
	out := testbed.Run(t, testbed.Program, "status", "--settings", os.DevNull, "-p", pid)
	if !strings.Contains(out, "More:        not to be had: it is "+intruder+" who answers there") || strings.Contains(out, "example") {
		t.Errorf("status says %s", out)
	}
}

// TestStopEndsThoughWhatItStopsDoesNot: me's minimail is none, and deaf to TERM.
func TestStopEndsThoughWhatItStopsDoesNot(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	if said, code := v.says(t, "stop", "-p", liar(t, "no answer", me, me)); code != 1 || !strings.Contains(said, "cannot stop pid ") || !strings.Contains(said, "\nhint: kill -9 ") {
		t.Errorf("exit %d: %s", code, said)
	}
}

// liar is the pid file of a minimail of owner's that runs, whose control socket
// is answered by another user.
func liar(t *testing.T, answer, owner, answers string) string {
	t.Helper()
	dir := testbed.PublicDir(t)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	testbed.PlayedBy(t, answers, "minimail-liar", filepath.Join(dir, "m.sock"), answer)
	testbed.PlayedBy(t, owner, "minimail-holder", filepath.Join(dir, "m.pid"), filepath.Join(dir, "m.lock"))
	return filepath.Join(dir, "m.pid")
}

func init() {
	testbed.Roles["minimail-holder"] = func(args []string) int {
		signal.Ignore(syscall.SIGTERM)
		err := os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0o644)
		lock, openErr := os.OpenFile(args[1], os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil || openErr != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX) != nil {
			return 1
		}
		fmt.Println("holding")
		return testbed.Stay()
	}
	testbed.Roles["minimail-liar"] = func(args []string) int {
		l, err := net.Listen("unix", args[0])
		if err != nil || os.Chmod(args[0], 0o777) != nil {
			return 1
		}
		fmt.Println("listening")
		for {
			c, err := l.Accept()
			if err != nil {
				return 1
			}
			_, err = io.WriteString(c, args[1])
			for args[1] == "endless" && err == nil {
				_, err = io.WriteString(c, strings.Repeat(" ", 64<<10))
			}
			c.Close()
		}
	}
}
