package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A checked is what check has said.
type checked struct {
	out  string
	code int
}

// check runs check with m's options, and more of them.
func (m *minimail) check(t *testing.T, options ...string) checked {
	t.Helper()
	return runCheck(t, nil, append(m.cmd.Args[1:len(m.cmd.Args):len(m.cmd.Args)], options...)...)
}

// runCheck runs check, as another process would be run that prepared has
// changed.
func runCheck(t *testing.T, prepared func(*exec.Cmd), options ...string) checked {
	t.Helper()
	cmd := exec.Command(program, append(options, "check")...)
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
	return checked{out.String(), cmd.ProcessState.ExitCode()}
}

// TestACheckThatIsInterruptedFindsNoFaults: its ssh is ended then, which looks
// like a fault, and the command that mends it would do harm.
func TestACheckThatIsInterruptedFindsNoFaults(t *testing.T) {
	t.Parallel()
	ssh := filepath.Join(publicDir(t), "ssh")
	write(t, ssh, "#!/bin/sh\ncase \"$*\" in -V) echo OpenSSH_9.2p1 >&2 ;; *) kill -INT $PPID; exec sleep 1000 ;; esac\n")
	if err := os.Chmod(ssh, 0o755); err != nil {
		t.Fatal(err)
	}
	options := []string{"--settings", os.DevNull, "--host", "far", "--user", runAs, "--ssh", ssh}
	c := runCheck(t, nil, options...)
	c.says(t, "OK", "ssh", "OpenSSH 9.2", "")
	c.says(t, "FAIL", "check", "interrupted", "")
	if strings.Count(c.out, "FAIL") != 1 || !strings.HasSuffix(c.out, "\nnot all has been looked at\n") || c.code != 2 {
		t.Errorf("exit %d:\n%s", c.code, c.out)
	}
	c = runCheck(t, nil, append(options, "--nagios")...)
	if !strings.HasPrefix(c.out, "MINIMAIL UNKNOWN - check: interrupted") || c.code != exitNagiosUnknown {
		t.Errorf("exit %d: %q", c.code, c.out)
	}
}

// asNobody has a command run by an ordinary user with such a home.
func asNobody(t *testing.T, home string, env ...string) func(*exec.Cmd) {
	t.Helper()
	uid := uint32(uidOf(t, runAs))
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Env = append(append(os.Environ(), "HOME="+home, "USER="+runAs), env...)
	}
}

// says fails the test unless a point has got such a verdict, with text that
// matches, and below it a line that mends it and matches as well.
func (c checked) says(t *testing.T, verdict, name, text, mend string) {
	t.Helper()
	re := `(?m)^` + verdict + ` +` + regexp.QuoteMeta(name) + ` +.*` + text + `.*\n`
	if mend != "" {
		re += `(       mend: .*\n)*       mend: .*` + mend
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

func TestAGoodSetUpIsWellAndEachPointIsALine(t *testing.T) {
	t.Parallel()
	h, far := newHost(t), mailServer(t, nil)
	h.configure(t, "ControlMaster auto", "ControlPath /nowhere/%C", "GatewayPorts yes")
	m := h.prepare(t, far)
	c := m.check(t)
	c.isWell(t)
	c.says(t, "OK", "settings", `/dev/null is read; not defaults: --host far, --forward `+strconv.Itoa(m.port)+`:.*--user `+runAs, "")
	c.says(t, "OK", "ssh", `/ssh, OpenSSH \d+\.\d+`, "")
	c.says(t, "OK", "user", runAs+`, uid \d+`, "")
	c.says(t, "OK", "ssh -G", fmt.Sprintf(`far is %s@127\.0\.0\.1, port %d; overridden: ControlMaster auto, GatewayPorts yes`, loginAs, h.port), "")
	c.says(t, "OK", "key", q(h.path("key"))+`, without a passphrase`, "")
	c.says(t, "OK", "host key", q(fmt.Sprintf("[127.0.0.1]:%d is in %s", h.port, h.path("known_hosts"))), "")
	c.says(t, "OK", "port", fmt.Sprintf(`%d is free`, m.port), "")
	c.says(t, "OK", "tunnel", fmt.Sprintf(`%d is free`, m.near), "")
	c.says(t, "OK", "login", `far lets us in, in \d+ ms`, "")
	c.says(t, "OK", "far end", q(far)+` says: 220 far\.test ESMTP`, "")
	c.says(t, "OK", "limits", `enough for 256 clients`, "")
}

// TestCheckChangesNothing: with accept-new, ssh would write into known_hosts.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, "StrictHostKeyChecking accept-new")
	write(t, h.path("known_hosts"), "# nobody yet\n")
	giveTo(t, h.path("known_hosts"), runAs)
	giveTo(t, h.dir, runAs)
	tmp := publicDir(t)
	giveTo(t, tmp, runAs)
	m := h.prepare(t, mailServer(t, nil))
	before := listing(t, h.dir) + listing(t, filepath.Dir(m.pid))
	c := runCheck(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "TMPDIR="+tmp) }, m.cmd.Args[1:]...)
	c.isWell(t)
	c.says(t, "OK", "host key", `is accepted, though it is in no known_hosts file`, "")
	if after := listing(t, h.dir) + listing(t, filepath.Dir(m.pid)); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if left := listing(t, tmp); strings.Count(left, "\n") != 1 {
		t.Errorf("left behind: %s", left)
	}
	m.nobodyLeft(t)
}

// TestCheckLearnsNoNewHostKeys: ssh would, of its own accord, once it is in.
func TestCheckLearnsNoNewHostKeys(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.restartWith(t, "HostKey "+h.path("hostkey")+"\n", "HostKey "+h.path("hostkey")+"\nHostKey "+h.path("otherkey")+"\n")
	h.configure(t, "UpdateHostKeys yes")
	giveTo(t, h.path("known_hosts"), runAs)
	giveTo(t, h.dir, runAs)
	before := read(t, h.path("known_hosts"))
	h.prepare(t, mailServer(t, nil)).check(t).isWell(t)
	if after := read(t, h.path("known_hosts")); after != before {
		t.Errorf("known_hosts was\n%s, and is\n%s", before, after)
	}
}

// TestAProxyCommandWorksWithoutALoginShell: our user has none.
func TestAProxyCommandWorksWithoutALoginShell(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.configure(t, fmt.Sprintf("ProxyCommand nc 127.0.0.1 %d", h.port))
	c := h.prepare(t, mailServer(t, nil)).check(t)
	c.isWell(t)
	c.says(t, "OK", "ssh -G", fmt.Sprintf("; ProxyCommand nc 127.0.0.1 %d", h.port), "")
}

// listing is all files below dir, with their modes and texts.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&all, path, info.Mode())
		if info.Mode().IsRegular() {
			all.WriteString(strconv.Quote(read(t, path)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestAKeyThatMayOnlyForwardIsEnough(t *testing.T) {
	t.Parallel()
	h, far := newHost(t), mailServer(t, nil)
	write(t, h.path("authorized"), fmt.Sprintf("restrict,port-forwarding,permitopen=%q,command=\"false\" %s", far, read(t, h.path("key.pub"))))
	h.restartWith(t, h.path("key.pub"), h.path("authorized"))
	c := h.prepare(t, far).check(t)
	c.isWell(t)
	// And the lock is really there.
	c = h.prepare(t, mailServer(t, nil)).check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "administratively prohibited", "permitopen=")
}

// restartWith restarts sshd with another text in its configuration.
func (h *host) restartWith(t *testing.T, before, after string) {
	t.Helper()
	h.stop()
	write(t, h.path("sshd_config"), strings.ReplaceAll(read(t, h.path("sshd_config")), before, after))
	h.start(t)
}

func TestARunningMinimailIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.minimail(t, mailServer(t, nil), "--idle", "1h")
	held := fmt.Sprintf("%d is held by minimail itself, pid %d", m.port, m.cmd.Process.Pid)
	c := m.check(t)
	c.isWell(t)
	c.says(t, "OK", "port", held, "")
	c.says(t, "OK", "tunnel", fmt.Sprintf("%d is free", m.near), "")
	if m.log.has("launched ssh") {
		t.Error("its tunnel was opened")
	}

	m.greets(t)
	ssh := m.theSSH(t)
	for _, c := range []checked{
		m.check(t),
		runCheck(t, asNobody(t, "/"), m.cmd.Args[1:]...), // who may not see all
	} {
		c.isWell(t)
		c.says(t, "OK", "port", held, "")
		c.says(t, "OK", "tunnel", fmt.Sprintf("%d is held by minimail itself", m.near), "")
		if now := m.theSSH(t); now != ssh {
			t.Errorf("its ssh was %d, and now is %d", ssh, now)
		}
	}
	if n := m.log.count("launched ssh"); n != 1 {
		t.Errorf("%d launches, want the first only", n)
	}
	if n := m.log.count("client served"); n != 1 {
		t.Errorf("%d clients have come, want the first only:\n%s", n, m.log)
	}
}

func TestTheAnswerInJSONIsOneObject(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	type answer struct {
		Status, Host, User string
		Exit               int
		Seconds            float64
		Points             []struct {
			Point, Status, Text string
			Mend                []string
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
		c := m.check(t, append(k.options, "--json")...)
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
		mends := 0
		for _, p := range a.Points {
			if p.Status == k.status && len(p.Mend) > 0 {
				mends++
			}
		}
		if (mends > 0) != (k.exit > 0) {
			t.Errorf("%q: %d points with that status are mended: %+v", k.options, mends, a)
		}
	}
}

func TestAsANagiosPluginItIsOneLineAndAState(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	m := h.prepare(t, mailServer(t, nil))
	closed := h.prepare(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	const perf = `\| time=\d+\.\d{3}s\n$`
	for _, k := range []struct {
		checked
		code int
		want string
	}{
		{m.check(t, "--nagios"), 0, `^MINIMAIL OK - login: far lets us in, in \d+ ms; far end: .* says: 220 far\.test ESMTP` + perf},
		{m.check(t, "--nagios", "--max-clients", "2000000000"), 1, `^MINIMAIL WARNING - limits: [^|\n]*` + perf},
		{closed.check(t, "--nagios"), 2, `^MINIMAIL CRITICAL - far end: [^|\n]*Connection refused[^|\n]*\n$`},
		{runCheck(t, asNobody(t, "/"), append(m.cmd.Args[1:], "--user", intruder, "--nagios")...), 3, `^MINIMAIL UNKNOWN - user: only root can become ` + intruder + `[^|\n]*\n$`},
	} {
		k.exits(t, k.code)
		if !regexp.MustCompile(k.want).MatchString(k.out) {
			t.Errorf("%q, want %s", k.out, k.want)
		}
	}
}

func TestAServerWhoseClientsSpeakFirstIsFoundOpen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	far := listen(t, echo)
	m := h.prepare(t, far, "--protocol", "tcp")
	c := m.check(t)
	c.isWell(t)
	c.says(t, "OK", "far end", q(far)+" is open", "")
	// A server that is not there is noticed all the same.
	c = h.prepare(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--protocol", "tcp").check(t)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "connect failed: Connection refused", "FARHOST:FARPORT")
}

// TestTheFarServerIsLeftPolitely: some log every client that is not.
func TestTheFarServerIsLeftPolitely(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	said := make(chan string, 10)
	far := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 far.test\r\n")
		all, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "221 bye\r\n")
		said <- all
	})
	h.prepare(t, far).check(t).isWell(t)
	if got := <-said; got != "QUIT\r\n" || len(said) > 0 {
		t.Errorf("it got %q, and %d more clients", got, len(said))
	}
}
