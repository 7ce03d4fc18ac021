package system

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

func TestCheckNamesWhoHasThePort(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", m.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "port", fmt.Sprintf(`127\.0\.0\.1:%d is held by %s, pid %d, uid 0 \(root\)`, m.Port, q(strings.TrimSpace(testbed.Read(t, "/proc/self/comm"))), os.Getpid()),
		fmt.Sprintf("sudo kill %d", os.Getpid()))
	c.says(t, "FAIL", "port", "", fmt.Sprintf("minimail --forward %d:%d:", m.Port+1000, m.Near))
	l.Close()
	checkOf(t, m).isWell(t)
}

// TestCheckTakesNobodyForMinimailWhomItCannotSee: who has a port of root's only
// root sees. Minimail says where it listens, to its own user.
func TestCheckTakesNobodyForMinimailWhomItCannotSee(t *testing.T) {
	t.Parallel()
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	m := h.Minimail(t, far, "--idle", "1h")
	m.Greets(t)
	roots, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer roots.Close()
	port := roots.Addr().(*net.TCPAddr).Port
	args := append(m.Cmd.Args[1:], "--forward", fmt.Sprintf("%d:%d:%s", port, testbed.FreePort(t), far))
	ours, other := fmt.Sprintf("%d is held by minimail itself, pid %d", m.Port, m.Cmd.Process.Pid), fmt.Sprintf(`127\.0\.0\.1:%d is held by uid 0 \(root\)`, port)

	c := runCheck(t, asNobody(t, "/"), args...)
	c.exits(t, 2)
	c.says(t, "OK", "port", ours, "")
	c.says(t, "FAIL", "port", other+"$", "sudo ss -ltnp")

	c = runCheck(t, as(t, testbed.Intruder, "/"), append(args, "--user", testbed.Intruder)...)
	hidden := fmt.Sprintf(": minimail itself, pid %d, or somebody else, which is not to be seen$", m.Cmd.Process.Pid)
	sees := fmt.Sprintf("sudo minimail .*--host far .*--forward %d:.* check # sees it$", port)
	c.says(t, "WARN", "port", fmt.Sprintf(`127\.0\.0\.1:%d is held by uid 0 \(root\)`, m.Port)+hidden, sees)
	c.says(t, "WARN", "port", other+hidden, sees)
	c.says(t, "WARN", "tunnel", fmt.Sprintf(`127\.0\.0\.1:%d is held by uid \d+ \(%s\)`, m.Near, testbed.RunAs)+hidden, sees)
}

// TestCheckNamesWhoHasTheTunnelsPort: if one family is left, ssh is content.
func TestCheckNamesWhoHasTheTunnelsPort(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	address := testbed.ServerOf(t, "tcp4", testbed.Intruder)
	_, near, _ := net.SplitHostPort(address)
	m := h.Prepare(t, testbed.Listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 the true one\r\n") }))
	args := strings.ReplaceAll(strings.Join(m.Cmd.Args[1:], "\n"), fmt.Sprintf("%d:%d:", m.Port, m.Near), fmt.Sprintf("%d:%s:", m.Port, near))
	whose := fmt.Sprintf(`%s is held by \S+, pid \d+, uid %d \(%s\)`, q(address), testbed.UidOf(t, testbed.Intruder), testbed.Intruder)
	mend := fmt.Sprintf("minimail --forward %d:", m.Port)

	c := runCheck(t, nil, strings.Split(args, "\n")...)
	c.exits(t, 1)
	c.says(t, "OK", "far end", "says: 220 the true one", "") // through a spare near end
	c.says(t, "WARN", "tunnel", whose+"; ssh will use the other address", `sudo kill \d+`)

	l, err := net.Listen("tcp6", "[::1]:"+near)
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer l.Close()
	c = runCheck(t, nil, strings.Split(args, "\n")...)
	c.exits(t, 2)
	c.says(t, "OK", "far end", "says: 220 the true one", "")
	c.says(t, "FAIL", "tunnel", whose+fmt.Sprintf(`; \[::1\]:%s is held by \S+, pid %d`, near, os.Getpid()), mend)
	checkOf(t, m).isWell(t) // with the other port
}

func TestCheckNamesForwardingThatIsForbidden(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t, "AllowTcpForwarding no")
	m := h.Prepare(t, testbed.MailServer(t, nil))
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "OK", "login", "", "")
	c.says(t, "FAIL", "far end", "administratively prohibited.*; the host's sshd does not let us forward to there", "sshd_config: AllowTcpForwarding local")
	c.says(t, "FAIL", "far end", "", "ssh .*-- far # asks for a new password, if the old one has expired")
	h.RestartWith(t, "AllowTcpForwarding no", "AllowTcpForwarding yes")
	checkOf(t, m).isWell(t)
}

// TestCheckKnowsWhatOpensTheWayToASocket: permitopen cannot name one, and a key
// with such an option is not taken at all.
func TestCheckKnowsWhatOpensTheWayToASocket(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t, "AllowStreamLocalForwarding no")
	far := filepath.Join(testbed.PublicDir(t), "lmtp")
	l, err := net.Listen("unix", far)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(far, 0o777); err != nil {
		t.Fatal(err)
	}
	go func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 far LMTP\r\n")
			c.Close()
		}
	}()
	m := h.Prepare(t, far)
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "the host's sshd does not forward to sockets", "AllowStreamLocalForwarding local")
	_, options, ok := strings.Cut(c.out, "authorized_keys over there: ")
	if !ok {
		t.Fatalf("no options of a key:\n%s", c.out)
	}
	options, _, _ = strings.Cut(options, "\n")
	restricted(options)(t, h, m)
	h.RestartWith(t, "AllowStreamLocalForwarding no", "AllowStreamLocalForwarding local")
	checkOf(t, m).isWell(t)
}

func TestCheckNamesAFarPortThatIsClosed(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := fmt.Sprintf("127.0.0.1:%d", testbed.FreePort(t))
	m := h.Prepare(t, far)
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "OK", "login", "", "")
	c.says(t, "FAIL", "far end", q(far)+", as seen from far: connect failed: Connection refused; the host cannot reach it: no mail server listens there", "start the mail server")
	l, err := net.Listen("tcp4", far)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			testbed.SpeakSMTP(c, nil)
			c.Close()
		}
	}()
	checkOf(t, m).isWell(t)
}

func TestCheckNamesAFarServerThatTakesNoMail(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	busy := testbed.Listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "421 too\x1b[2Jbusy\r\n") })
	c := checkOf(t, h.Prepare(t, busy))
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", q(busy)+" does not take mail now: 421 too"+q("?[2J")+"busy", "--protocol tcp")
}

func TestCheckNamesADirectoryThatCannotHoldTheTunnelsSocket(t *testing.T) {
	t.Parallel()
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	dir := testbed.PublicDir(t)
	m := h.Prepare(t, far)
	args := strings.Split(strings.ReplaceAll(strings.Join(m.Cmd.Args[1:], "\n"), fmt.Sprintf(":%d:", m.Near), ":"+dir+"/near:"), "\n")
	c := runCheck(t, nil, args...)
	c.exits(t, 2)
	c.says(t, "FAIL", "tunnel", testbed.RunAs+" cannot make a socket in "+q(dir), "sudo install -d -m 700 -o "+testbed.RunAs+" "+q(dir))
	testbed.Run(t, "install", "-d", "-m", "700", "-o", testbed.RunAs, dir)
	c = runCheck(t, nil, args...)
	c.isWell(t)
	c.says(t, "OK", "tunnel", q(dir+"/near")+" can be made", "")
}

// TestAFileInTheTunnelsPlaceIsNotRemoved: ssh's StreamLocalBindUnlink takes any.
func TestAFileInTheTunnelsPlaceIsNotRemoved(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	dir := testbed.PublicDir(t)
	testbed.GiveTo(t, dir, testbed.RunAs)
	near := filepath.Join(dir, "letter")
	testbed.Write(t, near, "for you")
	testbed.GiveTo(t, near, testbed.RunAs)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "8s")
	for i, a := range m.Cmd.Args {
		m.Cmd.Args[i] = strings.Replace(a, fmt.Sprintf(":%d:", m.Near), ":"+near+":", 1)
	}
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "tunnel", q(near)+" is there, and is no socket", "ls -ld "+q(near))
	m.Start(t)
	m.Refuses(t, "cannot bind to path "+q(near)+": Address already in use")
	if got := testbed.Read(t, near); got != "for you" {
		t.Errorf("there is %q now", got)
	}
	if err := os.Remove(near); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, "it works without", func() bool { return strings.HasPrefix(m.Greeting(t), "220 ") })
}

// TestAFarServerThatHangsUpIsDialedOnce: one that counts has no more to count,
// and the far ends after it are tried all the same.
func TestAFarServerThatHangsUpIsDialedOnce(t *testing.T) {
	t.Parallel()
	h, good := testbed.NewHost(t), testbed.MailServer(t, nil)
	knocks := make(chan bool, 100)
	rude := testbed.Listen(t, func(net.Conn) { knocks <- true })
	m := h.Prepare(t, rude, "--forward", fmt.Sprintf("%d:%d:%s", testbed.FreePort(t), testbed.FreePort(t), good))
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", q(rude)+", as seen from far: the connection to the mail server ended without a greeting",
		q(fmt.Sprintf("--forward %d:%d:FARHOST:FARPORT", m.Port, m.Near)))
	c.says(t, "OK", "far end", q(good)+" says: 220 far.test", "")
	if n := len(knocks); n != 1 {
		t.Errorf("it was dialed %d times", n)
	}
}

func TestCheckNamesALimitOfOpenFilesThatItMeets(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	c := runCheck(t, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -n 10; exec "$@"`, "sh"}, append([]string{testbed.Program}, cmd.Args[1:]...)...)
		cmd.Path = "/bin/sh"
	}, m.Cmd.Args[1:]...)
	c.exits(t, 2)
	c.says(t, "FAIL", "ssh", "too many open files", "ulimit -n 4096")
	c.says(t, "WARN", "limits", "10 open files are enough for 1 clients at a time, not for 256", "--max-clients 1")
	checkOf(t, m).isWell(t)
}
