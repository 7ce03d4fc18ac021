package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"minimail/internal/testbed"
)

// TestTheProgram runs the scripts in testdata/script: every word and option,
// with the real program and an ssh that is played by this test's binary.
//
// A script finds ports that are its own in $PORT1 to $PORT4 and $NEAR1 to
// $NEAR4, and both with a far end in $FWD1 to $FWD4. $ME is the user that a
// minimail ends up as. The directory $WORK/spool is everybody's.
func TestTheProgram(t *testing.T) {
	t.Parallel()
	ssh := testbed.FakeProgram(t, "fake-ssh")
	testscript.Run(t, testscript.Params{
		Dir:         filepath.Join("internal", "system", "testdata", "script"),
		WorkdirRoot: testbed.PublicDir(t),
		Setup:       func(env *testscript.Env) error { return setUpScript(t, env, ssh) },
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "lowports": // only root may bind them
				b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
				return err != nil || strings.TrimSpace(string(b)) == "1024", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":        scriptExits,
			"stderr-lines": scriptStderrLines,
			"wait-line":    scriptWaitLine,
			"wait-exists":  scriptWaitExists,
			"connect":      scriptConnect,
			"disconnect":   scriptDisconnect,
			"wait-cut":     scriptWaitCut,
			"wait-refused": scriptWaitRefused,
			"nothing-left": scriptNothingLeft,
		},
	})
}

func setUpScript(t *testing.T, env *testscript.Env, ssh string) error {
	for d := env.WorkDir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"spool", ".tmp"} {
		if err := os.MkdirAll(filepath.Join(env.WorkDir, d), 0o777); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(env.WorkDir, d), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	// What a script forgets to name must not be this machine's.
	env.Setenv("MINIMAIL_SETTINGS", os.DevNull)
	wrapped := filepath.Join(env.WorkDir, ".ssh")
	if err := wrap(wrapped, ssh, env); err != nil {
		return err
	}
	env.Setenv("MINIMAIL_SSH", wrapped)
	env.Setenv("MINIMAIL_PID_FILE", filepath.Join(env.WorkDir, "m.pid"))
	env.Setenv("MINIMAIL_LOG_FILE", filepath.Join(env.WorkDir, "spool", "m.log"))
	env.Setenv("GORACE", os.Getenv("GORACE"))
	env.Setenv("ME", testbed.RunAs)
	if os.Geteuid() == 0 {
		env.Setenv("MINIMAIL_USER", testbed.RunAs)
	} else if u, err := user.Current(); err != nil {
		return err
	} else {
		env.Setenv("ME", u.Username)
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env.Setenv("GOCOVERDIR", dir)
	}
	for i := 1; i <= 4; i++ {
		port, near := testbed.FreePort(t), testbed.FreePort(t)
		env.Setenv(fmt.Sprintf("PORT%d", i), strconv.Itoa(port))
		env.Setenv(fmt.Sprintf("NEAR%d", i), strconv.Itoa(near))
		env.Setenv(fmt.Sprintf("FWD%d", i), fmt.Sprintf("%d:%d:localhost:7", port, near))
	}
	env.Values[clientsKey{}] = map[string]net.Conn{}
	env.Defer(func() {
		for _, pid := range processesOf(env.WorkDir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return nil
}

// wrap writes a program that runs ssh with what it has to know: root's
// environment is not passed on. If there is a file fails, ssh says that and fails.
func wrap(file, ssh string, env *testscript.Env) error {
	return os.WriteFile(file, []byte(fmt.Sprintf(`#!/bin/sh
export WORK='%s'
export FAKE_SSH_RECORD="$WORK/spool/ssh.txt"
[ ! -e "$WORK/fails" ] || FAKE_SSH_FAILS=$(cat "$WORK/fails")
export FAKE_SSH_FAILS
exec '%s' "$@"
`, env.WorkDir, ssh)), 0o755)
}

// processesOf finds what a script has started: its $WORK is in the environment.
func processesOf(work string) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.Contains("\x00"+string(b), "\x00WORK="+work+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// exits STATUS PROGRAM ARGS... runs a program that must exit with STATUS.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil && want != 0:
		ts.Fatalf("exit status 0, want %d", want)
	case errors.As(err, &exit) && exit.ExitCode() != want:
		ts.Fatalf("%v, want %d", err, want)
	case err != nil && exit == nil:
		ts.Fatalf("%v", err)
	}
}

// wait-line FILE REGEXP waits until the file has it.
func scriptWaitLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-line FILE REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var b []byte
	if !testbed.Soon(func() bool { b, _ = os.ReadFile(ts.MkAbs(args[0])); return re.Match(b) }) {
		ts.Fatalf("no %q in %s within %s, but:\n%s", args[1], args[0], testbed.Patience, b)
	}
}

// [!] wait-exists FILE waits until the file is there, or gone.
func scriptWaitExists(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] wait-exists FILE")
	}
	if !testbed.Soon(func() bool { _, err := os.Stat(ts.MkAbs(args[0])); return (err == nil) != neg }) {
		ts.Fatalf("%s is not so within %s", args[0], testbed.Patience)
	}
}

type clientsKey struct{}

func clientsOf(ts *testscript.TestScript) map[string]net.Conn {
	return ts.Value(clientsKey{}).(map[string]net.Conn)
}

// connect NAME PORT makes a client, and waits until the far end has greeted it.
func scriptConnect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: connect NAME PORT")
	}
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", args[1]))
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	clientsOf(ts)[args[0]] = c
	_ = c.SetDeadline(time.Now().Add(testbed.Patience))
	if s, err := bufio.NewReader(c).ReadString('\n'); s != testbed.FakeGreeting {
		ts.Fatalf("client %s is greeted with %q (%v)", args[0], s, err)
	}
}

// disconnect NAME lets a client go.
func scriptDisconnect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: disconnect NAME")
	}
	ts.Check(clientsOf(ts)[args[0]].Close())
}

// wait-cut NAME waits until a client's connection is ended from the other side.
func scriptWaitCut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-cut NAME")
	}
	c := clientsOf(ts)[args[0]]
	_ = c.SetDeadline(time.Now().Add(testbed.Patience))
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		ts.Fatalf("client %s is still served", args[0])
	}
}

// wait-refused PORT waits until nobody listens there.
func scriptWaitRefused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-refused PORT")
	}
	if !testbed.Soon(func() bool {
		c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", args[0]))
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}) {
		ts.Fatalf("port %s still takes clients", args[0])
	}
}

// nothing-left waits until no process of the script's runs, and fails if one
// has left a directory or socket behind, or logged a panic or a data race.
func scriptNothingLeft(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: nothing-left")
	}
	work := ts.Getenv("WORK")
	if !testbed.Soon(func() bool { return len(processesOf(work)) == 0 }) {
		for _, pid := range processesOf(work) {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			ts.Logf("pid %d still runs: %q", pid, cmdline)
		}
		ts.Fatalf("processes are left")
	}
	left, err := os.ReadDir(ts.Getenv("TMPDIR"))
	ts.Check(err)
	for _, f := range left {
		ts.Fatalf("left behind: %s", f.Name())
	}
	logs, err := filepath.Glob(filepath.Join(work, "spool", "*.log*"))
	ts.Check(err)
	for _, log := range logs {
		if b, err := os.ReadFile(log); err == nil && badEnd.Match(b) {
			ts.Fatalf("%s has a panic or a data race:\n%s", log, b)
		}
	}
}

var badEnd = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE)`)

func init() { testbed.Roles["fake-ssh"] = fakeSSH }

// fakeSSH plays ssh and the far end in one: it says FAKE_SSH_FAILS and fails,
// or greets whoever comes to its near ends and sends back what they send.
func fakeSSH(args []string) int {
	if len(args) == 1 && args[0] == "-V" {
		fmt.Fprintln(os.Stderr, "OpenSSH_9.9p1 fake")
		return 0
	}
	if args[0] == "-G" {
		return 0
	}
	if record := os.Getenv("FAKE_SSH_RECORD"); record != "" {
		text := strings.Join(args, "\n") + "\n\n" + strings.Join(os.Environ(), "\n") + "\n"
		if err := os.WriteFile(record, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 255
		}
	}
	if why := os.Getenv("FAKE_SSH_FAILS"); why != "" {
		fmt.Fprintln(os.Stderr, why)
		return 255
	}
	for i, a := range args {
		if a != "-L" {
			continue
		}
		near, _, _ := strings.Cut(args[i+1], ":")
		l, err := net.Listen("tcp", "127.0.0.1:"+near)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 255
		}
		go testbed.GreetAll(l)
	}
	for { // until TERM
		time.Sleep(time.Hour)
	}
}
