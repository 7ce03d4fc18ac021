package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

// TestASocketOfAnotherUsersIsNeverUsed: he may write into its directory.
func TestASocketOfAnotherUsersIsNeverUsed(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"and may remove ours": 0o777, "and may not": 0o777 | os.ModeSticky} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "1s")
			dir := testbed.PublicDir(t)
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			near := filepath.Join(dir, "near")
			nearAt(m, near)
			s := evil(t, "socket spy", near)
			s.start(t)
			m.Start(t)
			for range testbed.Long(5, 100) {
				c := m.Dial(t)
				_, _ = io.WriteString(c, "EHLO secret.test\r\n")
				if got := testbed.ReadLine(t, bufio.NewReader(c)); strings.HasPrefix(got, "220 spy") {
					t.Fatalf("a client got %q", got)
				}
				c.Close()
				m.Forgets(t)
			}
			if got := s.stop(); got != "" {
				t.Errorf("he has read %q", got)
			}
			m.Log.Wait(t, fmt.Sprintf(`is held by spy, pid \d+, uid %d \(%s\), not by our ssh`, testbed.UidOf(t, testbed.Intruder), testbed.Intruder))
		})
	}
}

// spyAtSocket puts a socket of its own at a path, again and again, and prints what
// it is sent.
func spyAtSocket(args []string) int {
	at := args[0] + ".spy"
	l, err := net.Listen("unix", at)
	if err == nil {
		err = errors.Join(os.Chmod(at, 0o777), os.Link(at, args[0]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go testbed.AcceptAll(l, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 spy\r\n")
		_, _ = io.Copy(os.Stdout, c)
	})
	fmt.Fprintln(os.Stderr, "listening")
	for i := 0; ; i++ {
		time.Sleep(time.Duration(i%7) * time.Millisecond) // so that ssh has it now and then
		if os.Link(at, at+".new") == nil {
			_ = os.Rename(at+".new", args[0])
			_ = os.Remove(at + ".new") // it is the same file already
		}
	}
}

// TestAQueueOfAnotherUsersThatIsFullDelaysNobody: the other address is tried.
func TestAQueueOfAnotherUsersThatIsFullDelaysNobody(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil), "--wait", "20s")
	evil(t, "full spy", strconv.Itoa(m.Near)).start(t)
	m.Start(t)
	m.Greets(t)
	m.Log.Wait(t, fmt.Sprintf(`127\.0\.0\.1:%d is held by uid %d \(%s\)`, m.Near, testbed.UidOf(t, testbed.Intruder), testbed.Intruder))
}

// fillQueue listens at a port, and fills its queue, so that further connections
// hang.
func fillQueue(args []string) int {
	port, _ := strconv.Atoi(args[0])
	at := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, at), unix.Listen(fd, 0))
	}
	for range 3 {
		c, e := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err = errors.Join(err, e); err == nil {
			_ = unix.Connect(c, at)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "listening")
	return testbed.Stay()
}

// TestADirectoryWhereOthersMayWriteIsNamed: their socket there reads nothing, but
// keeps mail from leaving.
func TestADirectoryWhereOthersMayWriteIsNamed(t *testing.T) {
	t.Parallel()
	h, far := testbed.NewHost(t), testbed.MailServer(t, nil)
	for name, mode := range map[string]os.FileMode{"others can change": 0o777, "others can write into": 0o777 | os.ModeSticky} {
		m := h.Prepare(t, far)
		dir := filepath.Join(testbed.PublicDir(t), "shared")
		testbed.Run(t, "install", "-d", "-m", "700", "-o", testbed.RunAs, dir)
		near := filepath.Join(dir, "near")
		nearAt(m, near)
		log := filepath.Join(testbed.PublicDir(t), "log")
		start := func() string {
			t.Helper()
			words := slices.Insert(slices.Clone(m.Cmd.Args[2:]), 0, "start", "--log-file", log)
			out := testbed.Run(t, testbed.Program, words...)
			testbed.Run(t, testbed.Program, "stop", "--settings", os.DevNull, "--pid-file", m.Pid)
			return out
		}
		checkOf(t, m).isWell(t)
		if out := start(); strings.Contains(out, "warning") {
			t.Errorf("start warns of a directory of one's own: %s", out)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		c := checkOf(t, m)
		c.exits(t, 1)
		c.says(t, "WARN", "tunnel", fmt.Sprintf("%s %s: they can keep mail from leaving by a socket of their own in place of %s", name, q(dir), q(near)), "")
		if out, want := start(), fmt.Sprintf("minimail: warning: %s %s: they can keep mail from leaving", name, dir); !strings.Contains(out, want) {
			t.Errorf("start says %q, not %q", out, want)
		}
		if got := testbed.Read(t, log); !strings.Contains(got, "WRN "+name) {
			t.Errorf("the log has no warning:\n%s", got)
		}
	}
}
