package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// TestACheckThatIsInterruptedFindsNoFaults: its ssh is ended then, which looks
// like a fault, and the command that mends it would do harm.
func TestACheckThatIsInterruptedFindsNoFaults(t *testing.T) {
	t.Parallel()
	ssh := testbed.Script(t, "case \"$*\" in -V) echo OpenSSH_9.2p1 >&2 ;; *) kill -INT $PPID; exec sleep 1000 ;; esac\n")
	options := []string{"--settings", os.DevNull, "--host", "far", "--user", testbed.Me(t), "--ssh", ssh}
	c := runCheck(t, nil, options...)
	c.says(t, "OK", "ssh", "OpenSSH 9.2", "")
	c.says(t, "FAIL", "check", "interrupted", "")
	if strings.Count(c.out, "FAIL") != 1 || !strings.HasSuffix(c.out, "\nnot all has been looked at\n") || c.code != 2 {
		t.Errorf("exit %d:\n%s", c.code, c.out)
	}
	c = runCheck(t, nil, append(options, "--nagios")...)
	if !strings.HasPrefix(c.out, "MINIMAIL UNKNOWN - check: interrupted") || c.code != 3 {
		t.Errorf("exit %d: %q", c.code, c.out)
	}
}

func TestAGoodSetUpIsWellAndEachPointIsALine(t *testing.T) {
	t.Parallel()
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	h.Configure(t, "ControlMaster auto", "ControlPath /nowhere/%C", "GatewayPorts yes")
	m := h.Prepare(t, far)
	c := checkOf(t, m)
	c.isWell(t)
	c.says(t, "OK", "settings", `/dev/null is read; not defaults: --host far, --forward `+strconv.Itoa(m.Port)+`:.*--user `+testbed.RunAs, "")
	c.says(t, "OK", "ssh", `/ssh, OpenSSH \d+\.\d+`, "")
	c.says(t, "OK", "user", testbed.RunAs+`, uid \d+`, "")
	c.says(t, "OK", "ssh -G", fmt.Sprintf(`far is %s@127\.0\.0\.1, port %d; overridden: ControlMaster auto, GatewayPorts yes`, testbed.LoginAs, h.Port), "")
	c.says(t, "OK", "key", q(h.Path("key"))+`, without a passphrase`, "")
	c.says(t, "OK", "host key", q(fmt.Sprintf("[127.0.0.1]:%d is in %s", h.Port, h.Path("known_hosts"))), "")
	c.says(t, "OK", "port", fmt.Sprintf(`%d is free`, m.Port), "")
	c.says(t, "OK", "tunnel", fmt.Sprintf(`%d is free`, m.Near), "")
	c.says(t, "OK", "login", `far lets us in, in \d+ ms`, "")
	c.says(t, "OK", "far end", q(far)+` says: 220 far\.test ESMTP`, "")
	c.says(t, "OK", "limits", `enough for 256 clients`, "")
}

func TestKeysThatAreTriedInVainAreCounted(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for n, want := range []string{`, by \S+/key$`, `, by \S+/key; keys tried before it, a round trip each: 1, which`} {
		if n > 0 {
			h.Configure(t, "IdentityFile "+h.Path("otherkey"))
		}
		checkOf(t, m).says(t, "OK", "login", want, "")
	}
}

// TestCheckChangesNothing: with accept-new, ssh would write into known_hosts.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "StrictHostKeyChecking accept-new")
	testbed.Write(t, h.Path("known_hosts"), "# nobody yet\n")
	testbed.GiveTo(t, h.Path("known_hosts"), testbed.RunAs)
	testbed.GiveTo(t, h.Dir, testbed.RunAs)
	tmp := testbed.PublicDir(t)
	testbed.GiveTo(t, tmp, testbed.RunAs)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	before := listing(t, h.Dir) + listing(t, filepath.Dir(m.Pid))
	c := runCheck(t, asNobody(t, "/", "TMPDIR="+tmp), m.Cmd.Args[1:]...)
	c.isWell(t)
	c.says(t, "OK", "host key", `is accepted, though it is in no known_hosts file`, "")
	if after := listing(t, h.Dir) + listing(t, filepath.Dir(m.Pid)); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if left := listing(t, tmp); strings.Count(left, "\n") != 1 {
		t.Errorf("left behind: %s", left)
	}
	m.NobodyLeft(t)
}

// TestCheckLearnsNoNewHostKeys: ssh would, of its own accord, once it is in.
func TestCheckLearnsNoNewHostKeys(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.RestartWith(t, "HostKey "+h.Path("hostkey")+"\n", "HostKey "+h.Path("hostkey")+"\nHostKey "+h.Path("otherkey")+"\n")
	h.Configure(t, "UpdateHostKeys yes")
	testbed.GiveTo(t, h.Path("known_hosts"), testbed.RunAs)
	testbed.GiveTo(t, h.Dir, testbed.RunAs)
	before := testbed.Read(t, h.Path("known_hosts"))
	checkOf(t, h.Prepare(t, testbed.MailServer(t, nil))).isWell(t)
	if after := testbed.Read(t, h.Path("known_hosts")); after != before {
		t.Errorf("known_hosts was\n%s, and is\n%s", before, after)
	}
}

// TestAProxyCommandWorksWithoutALoginShell: our user has none.
func TestAProxyCommandWorksWithoutALoginShell(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, fmt.Sprintf("ProxyCommand nc 127.0.0.1 %d", h.Port))
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.isWell(t)
	c.says(t, "OK", "ssh -G", fmt.Sprintf("; ProxyCommand nc 127.0.0.1 %d", h.Port), "")
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
			all.WriteString(strconv.Quote(testbed.Read(t, path)))
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
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	testbed.Write(t, h.Path("authorized"), fmt.Sprintf("restrict,port-forwarding,permitopen=%q,command=\"false\" %s", far, testbed.Read(t, h.Path("key.pub"))))
	h.RestartWith(t, h.Path("key.pub"), h.Path("authorized"))
	c := checkOf(t, h.Prepare(t, far))
	c.isWell(t)
	// And the lock is really there.
	c = checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "administratively prohibited", "permitopen=")
}

// TestOneThatRunsWithOtherOptionsIsToGetThese: restart alone would keep the others.
func TestOneThatRunsWithOtherOptionsIsToGetThese(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil))
	port := testbed.FreePort(t)
	more := fmt.Sprintf("%d:%d:127.0.0.1:25", port, testbed.FreePort(t))
	c := checkOf(t, m, "--forward", more)
	c.says(t, "WARN", "port", fmt.Sprintf("%d is free, though minimail runs, pid %d: with other settings", port, m.Cmd.Process.Pid),
		"minimail .*--host far .*--forward "+q(more)+" restart # ")
}

func TestARunningMinimailIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--idle", "1h")
	held := fmt.Sprintf("%d is held by minimail itself, pid %d", m.Port, m.Cmd.Process.Pid)
	c := checkOf(t, m)
	c.isWell(t)
	c.says(t, "OK", "port", held, "")
	c.says(t, "OK", "tunnel", fmt.Sprintf("%d is free", m.Near), "")
	if m.Log.Has("launched ssh") {
		t.Error("its tunnel was opened")
	}

	m.Greets(t)
	ssh := m.TheSSH(t)
	for _, c := range []checked{
		checkOf(t, m),
		runCheck(t, asNobody(t, "/"), m.Cmd.Args[1:]...), // who may not see all
	} {
		c.isWell(t)
		c.says(t, "OK", "port", held, "")
		c.says(t, "OK", "tunnel", fmt.Sprintf("%d is held by minimail itself", m.Near), "")
		if now := m.TheSSH(t); now != ssh {
			t.Errorf("its ssh was %d, and now is %d", ssh, now)
		}
	}
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("%d launches, want the first only", n)
	}
	if n := m.Log.Count("client served"); n != 1 {
		t.Errorf("%d clients have come, want the first only:\n%s", n, m.Log)
	}
}

func TestAServerWhoseClientsSpeakFirstIsFoundOpen(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.Listen(t, testbed.Echo)
	m := h.Prepare(t, far, "--protocol", "tcp")
	c := checkOf(t, m)
	c.isWell(t)
	c.says(t, "OK", "far end", q(far+" is open, and waits for us to speak (2s)"), "")
	// A server that is not there is noticed all the same.
	c = checkOf(t, h.Prepare(t, fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t)), "--protocol", "tcp"))
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "connect failed: Connection refused", "FARHOST:FARPORT")
}

// TestTheFarServerIsLeftPolitely: some log every client that is not.
func TestTheFarServerIsLeftPolitely(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	said := make(chan string, 10)
	far := testbed.Listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 far.test\r\n")
		all, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "221 bye\r\n")
		said <- all
	})
	checkOf(t, h.Prepare(t, far)).isWell(t)
	if got := <-said; got != "QUIT\r\n" || len(said) > 0 {
		t.Errorf("it got %q, and %d more clients", got, len(said))
	}
}
