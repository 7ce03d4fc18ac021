package tunnel

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asFake is the first argument that makes the test binary a fake program. It is
// an argument, and no variable, so that the environment is only Config.Env.
const asFake = "be-a-fake"

// fakes are the programs that the test binary can be. Whatever becomes of the
// tests, none lives for more than five minutes.
var fakes map[string]func(args []string) (exitStatus int)

func init() {
	fakes = map[string]func([]string) int{
		"speaker":     speak,
		"deaf":        beDeaf,
		"killed":      killMyself,
		"flooder":     flood,
		"looker":      look,
		"grandfather": haveGrandchild,
		"holder":      hold,
		"echo":        echo,
		"parent":      beParent,
		"init":        beInit,
		"poor":        bePoor,
		"rich":        beRich,
		"settler":     settle,
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == asFake {
		time.AfterFunc(5*time.Minute, func() { syscall.Exit(99) })
		// Not os.Exit, with which the race detector takes a second.
		syscall.Exit(fakes[os.Args[2]](os.Args[3:]))
	}
	if err := flag.Set("rapid.nofailfile", "true"); err != nil { // it leaves files
		panic(err)
	}
	os.Exit(m.Run())
}

// fake is the argv of a fake.
func fake(name string, args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	if fakes[name] == nil {
		panic("no fake " + name)
	}
	return append([]string{self, asFake, name}, args...)
}

// runs is a Config.Command.
func runs(argv []string, env ...string) func() Command {
	return func() Command { return Command{Argv: argv, Env: env} }
}

// hear stands in for what knows the words of the real ssh.
func hear() func(string, bool) Meaning {
	chatter := regexp.MustCompile("^(debug1: |Authenticated to |Warning: |Transferred: |Bytes per second: |Could not request )")
	nearEnd := regexp.MustCompile("cannot (?:listen to port:|bind to path) ([^:]+)")
	return func(line string, _ bool) Meaning {
		m := Meaning{Why: line}
		switch {
		case chatter.MatchString(line):
			m.Why = ""
		case line == rejected.Error():
			m.Failure = Definite
		}
		if found := nearEnd.FindStringSubmatch(line); found != nil {
			m.NearEnd = found[1]
		}
		return m
	}
}

func say(line string) { fmt.Fprintln(os.Stderr, line) }

// speak says lines and exits with a status, or, if that is no number, stays
// until it is told to go.
func speak(args []string) int {
	for _, line := range args[1:] {
		say(line)
	}
	status, err := strconv.Atoi(args[0])
	if err != nil {
		return untilTerm()
	}
	return status
}

// untilTerm ends as ssh -N does: without a word, and with 0.
func untilTerm() int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	<-term
	return 0
}

// beDeaf says that it is ready, and then does not listen to TERM.
func beDeaf([]string) int {
	signal.Ignore(syscall.SIGTERM)
	say("deaf")
	select {}
}

func killMyself([]string) int {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// flood says some megabytes without a line's end, with all bytes there are, and
// then a line.
func flood([]string) int {
	all := make([]byte, 0, 255)
	for b := range 256 {
		if b != '\n' {
			all = append(all, byte(b))
		}
	}
	for range 4 << 20 / len(all) {
		if _, err := os.Stderr.Write(all); err != nil {
			return 1
		}
	}
	say("\nafter the flood")
	return 255
}

// A sight is what a child sees of itself.
type sight struct {
	Args, Env           []string
	Descriptors         map[string]string
	Pid, Group, Session int
}

// look writes down what it sees into a file.
func look(args []string) int {
	s := sight{Args: os.Args, Env: os.Environ(), Pid: os.Getpid(), Group: syscall.Getpgrp(), Descriptors: descriptors()}
	s.Session, _ = unix.Getsid(0)
	out, _ := json.Marshal(s)
	if err := os.WriteFile(args[0], out, 0o600); err != nil {
		say(err.Error())
		return 1
	}
	say("seen")
	return 255
}

// descriptors are those of this process that are not the Go runtime's.
func descriptors() map[string]string {
	all := make(map[string]string)
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		// Gone: it was ReadDir's own.
		if err == nil && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			all[e.Name()] = to
		}
	}
	return all
}

// haveGrandchild starts a process that keeps our stderr open, in our group or in
// a session of its own, and goes, or stays until it has gone.
func haveGrandchild(args []string) int {
	argv := fake("holder", args[1])
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: args[0] == "stray"}
	if args[0] == "member that is told" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM) // and stay
	}
	ready, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		say(err.Error())
		return 1
	}
	_, _ = io.ReadAll(ready)
	if args[0] == "member that is told" {
		_ = cmd.Wait()
		return 0
	}
	say("the last line of ssh itself")
	return 255
}

// hold waits at a Unix socket for the test, greets it with an H, and then lets
// the one go that has started it, by closing standard output. It says T and goes
// when it is told to; it also goes when it is sent something. Its end is that of
// the connection.
func hold(args []string) int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return 1
	}
	test, err := l.Accept()
	if err != nil {
		return 1
	}
	_, _ = test.Write([]byte("H"))
	os.Stdout.Close()
	sent := make(chan struct{})
	go func() {
		if n, _ := test.Read(make([]byte, 1)); n > 0 {
			close(sent)
		}
	}()
	select {
	case <-told:
		_, _ = test.Write([]byte("T"))
	case <-sent:
	}
	return 0
}

// echo is a near end that gives back what it gets, then an end for an end. It
// stays until it is told to go.
func echo(args []string) int {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		say("channel_setup_fwd_listener_tcpip: cannot listen to port: " + args[1])
		return 255
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return untilTerm()
}

// short is a directory whose name leaves room for a Unix socket's.
func short(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if len(dir) < 90 {
		return dir
	}
	link := filepath.Join(os.TempDir(), "minimail-"+strconv.Itoa(os.Getpid()))
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(link) })
	return link
}
