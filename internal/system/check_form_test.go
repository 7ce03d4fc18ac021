package system

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// A checked is what check has said.
type checked struct {
	out  string
	code int
}

// check runs check with m's options, and more of them.
func checkOf(t *testing.T, m *testbed.Minimail, options ...string) checked {
	t.Helper()
	return runCheck(t, nil, append(m.Cmd.Args[1:len(m.Cmd.Args):len(m.Cmd.Args)], options...)...)
}

// runCheck runs check, as another process would be run that prepared has
// changed.
func runCheck(t *testing.T, prepared func(*exec.Cmd), options ...string) checked {
	t.Helper()
	cmd := exec.Command(testbed.Program, append(options, "check")...)
	cmd.Dir = "/"
	var out, words strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &words
	if prepared != nil {
		prepared(cmd)
	}
	_ = cmd.Run()
	if words.Len() > 0 {
		t.Errorf("stderr: %s", words.String())
	}
	c := checked{out.String(), cmd.ProcessState.ExitCode()}
	c.canBePasted(t)
	return c
}

// asNobody has a command run by an ordinary user with such a home.
func asNobody(t *testing.T, home string, env ...string) func(*exec.Cmd) {
	t.Helper()
	return as(t, testbed.RunAs, home, env...)
}

func as(t *testing.T, user, home string, env ...string) func(*exec.Cmd) {
	t.Helper()
	uid := uint32(testbed.UidOf(t, user))
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Env = append(append(os.Environ(), "HOME="+home, "USER="+user), env...)
	}
}

// canBePasted fails the test unless sh can read what is to be typed.
func (c checked) canBePasted(t *testing.T) {
	t.Helper()
	for _, fix := range regexp.MustCompile(`(?m)^ +fix: (.*)$`).FindAllStringSubmatch(c.out, -1) {
		if out, err := exec.Command("sh", "-n", "-c", fix[1]).CombinedOutput(); err != nil {
			t.Errorf("sh cannot read %q: %s", fix[1], out)
		}
	}
}

// says fails the test unless a point has got such a verdict, with text that
// matches, and below it a line that mends it and matches as well.
func (c checked) says(t *testing.T, verdict, name, text, mend string) {
	t.Helper()
	re := `(?m)^` + verdict + ` +` + regexp.QuoteMeta(name) + ` +.*` + text + `.*\n`
	if mend != "" {
		re += `(       fix: .*\n)*       fix: .*` + mend
	}
	if !regexp.MustCompile(re).MatchString(c.out) {
		t.Errorf("not said: %s %s: %s (%s), but:\n%s", verdict, name, text, mend, c.out)
	}
}

func (c checked) exits(t *testing.T, code int) {
	t.Helper()
	if c.code != code {
		t.Errorf("exit %d, want %d:\n%s", c.code, code, c.out)
	}
}

// isWell is for a set-up in which nothing is wrong (any more).
func (c checked) isWell(t *testing.T) {
	t.Helper()
	c.exits(t, 0)
	if strings.Contains(c.out, "FAIL") || strings.Contains(c.out, "WARN") || !strings.HasSuffix(c.out, "\nall is well\n") {
		t.Errorf("not all is well:\n%s", c.out)
	}
}

func q(s string) string { return regexp.QuoteMeta(s) }

func TestTheAnswerInJSONIsOneObject(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	type answer struct {
		Status, Host, User string
		Exit               int
		Seconds            float64
		Points             []struct {
			Point, Status, Text string
			Fix                 []string
		}
	}
	for _, k := range []struct {
		options []string
		exit    int
		status  string
	}{
		{nil, 0, "ok"},
		{[]string{"--max-clients", "2000000000"}, 1, "warning"},
		{[]string{"--user", "no-such-user"}, 2, "failure"},
	} {
		c := checkOf(t, m, append(k.options, "--json")...)
		c.exits(t, k.exit)
		var a answer
		d := json.NewDecoder(strings.NewReader(c.out))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil {
			t.Fatalf("%v in:\n%s", err, c.out)
		}
		if d.More() {
			t.Errorf("and more behind the object:\n%s", c.out)
		}
		if a.Status != k.status || a.Exit != k.exit || a.Host != "far" || (a.Seconds > 0) != (k.exit < 2) || len(a.Points) < 2 {
			t.Errorf("%q: %+v", k.options, a)
		}
		fixes := 0
		for _, p := range a.Points {
			if p.Status == k.status && len(p.Fix) > 0 {
				fixes++
			}
		}
		if (fixes > 0) != (k.exit > 0) {
			t.Errorf("%q: %d points with that status are mended: %+v", k.options, fixes, a)
		}
	}
}

func TestAsANagiosPluginItIsOneLineAndAState(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	closed := h.Prepare(t, fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t)))
	const perf = `\| time=\d+\.\d{3}s\n$`
	for _, k := range []struct {
		checked
		code int
		want string
	}{
		{checkOf(t, m, "--nagios"), 0, `^MINIMAIL OK - login: far lets us in, in \d+ ms [^|\n]*; far end: .* says: 220 far\.test ESMTP` + perf},
		{checkOf(t, m, "--nagios", "--max-clients", "2000000000"), 1, `^MINIMAIL WARNING - limits: [^|\n]*` + perf},
		{checkOf(t, closed, "--nagios"), 2, `^MINIMAIL CRITICAL - far end: [^|\n]*Connection refused[^|\n]*\n$`},
		{runCheck(t, asNobody(t, "/"), append(m.Cmd.Args[1:], "--user", testbed.Intruder, "--nagios")...), 3, `^MINIMAIL UNKNOWN - user: only root can become ` + testbed.Intruder + `[^|\n]*\n$`},
	} {
		k.exits(t, k.code)
		if !regexp.MustCompile(k.want).MatchString(k.out) {
			t.Errorf("%q, want %s", k.out, k.want)
		}
	}
}
