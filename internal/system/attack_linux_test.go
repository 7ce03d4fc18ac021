package system

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

// Attacks by another user on a minimail that root starts. docs/SECURITY.md says
// what is promised. me is whom minimail becomes, the intruder (evil, below) is anybody else.
const (
	me       = testbed.RunAs
	intruder = testbed.Intruder
)

// A victim is a machine's directory with files of root's that nobody else may
// change, and me's home.
type victim struct {
	etc, home string
	fwd       string // a forward with ports of its own
	before    string
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	testbed.NeedRoot(t)
	v := &victim{etc: filepath.Join(testbed.PublicDir(t), "etc"), home: filepath.Join(testbed.PublicDir(t), "home")}
	v.fwd = fmt.Sprintf("%d:%d:localhost:7", testbed.FreePort(t), testbed.FreePort(t))
	for _, dir := range []string{v.etc, v.home} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testbed.GiveTo(t, v.home, me)
	for _, name := range []string{"shadow", "m.pid", "m.log", "m.lock", "m.pid.new"} {
		testbed.Write(t, filepath.Join(v.etc, name), "root's")
		if err := os.Chmod(filepath.Join(v.etc, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v.before = listing(t, v.etc)
	return v
}

// says runs a word as root, who becomes me. It has to end by itself.
func (v *victim) says(t *testing.T, options ...string) (said string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*testbed.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testbed.Program, options...)
	cmd.Env = append(os.Environ(), "MINIMAIL_SETTINGS="+os.DevNull, "MINIMAIL_HOST=far", "MINIMAIL_FORWARD="+v.fwd,
		"MINIMAIL_USER="+me, "MINIMAIL_SSH="+testbed.FakeProgram(t, "fake-ssh"), "FAKE_SSH_RECORD=")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("minimail %s does not end: %v\n%s", strings.Join(options, " "), err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// tries starts minimail with such files, looks after it, and stops it.
func (v *victim) tries(t *testing.T, pid, log string) (said string, code int) {
	t.Helper()
	said, code = v.says(t, "start", "--pid-file", pid, "--log-file", log)
	_, _ = v.says(t, "status", "--pid-file", pid)
	_, _ = v.says(t, "stop", "--pid-file", pid)
	v.isUnhurt(t, pid+" "+log)
	return said, code
}

func (v *victim) isUnhurt(t *testing.T, what string) {
	t.Helper()
	if after := listing(t, v.etc); after != v.before {
		t.Fatalf("%s: root's files are\n%s\nand were\n%s", what, after, v.before)
	}
	for _, name := range []string{"shadow", "m.pid", "m.log"} {
		if got := testbed.Read(t, filepath.Join(v.etc, name)); got != "root's" {
			t.Fatalf("%s: in root's %s is %q", what, name, got)
		}
	}
}

func TestRootFollowsNoLinkOfAUsers(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	for name, to := range map[string]string{"file": "shadow", "pidfile": "m.pid", "nothing": "nobody-has-this", "directory": ""} {
		link := filepath.Join(v.home, name)
		if err := os.Symlink(filepath.Join(v.etc, to), link); err != nil {
			t.Fatal(err)
		}
		good := filepath.Join(v.home, "good."+name)
		for _, files := range [][2]string{{link, good}, {good, link}} {
			if said, code := v.tries(t, files[0], files[1]); code == 0 || !strings.Contains(said, link+": ") || !strings.Contains(said, "\nhint: ") || strings.Contains(said, "chown") {
				t.Errorf("%s: exit %d: %s", name, code, said)
			}
		}
		_, _ = v.tries(t, filepath.Join(link, "m.pid"), filepath.Join(link, "m.log"))
	}
}

func TestRootGivesAwayNoFileThatIsThere(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	hard := filepath.Join(v.home, "hard")
	if err := os.Link(filepath.Join(v.etc, "m.lock"), hard); err != nil { // as before Linux 3.6
		t.Fatal(err)
	}
	v.before = listing(t, v.etc)
	pid := filepath.Join(testbed.PublicDir(t), "m.pid")
	for log, want := range map[string]string{
		filepath.Join(v.etc, "shadow"): "it belongs to root, not to " + me,
		hard:                           "it has another name, a hard link",
		v.home:                         "is a directory",
	} {
		if said, code := v.tries(t, pid, log); code != 2 || !strings.Contains(said, "cannot open the log "+log+": "+want) || !strings.Contains(said, "\nhint: ") {
			t.Errorf("%s: exit %d: %s", log, code, said)
		}
	}
	if said, code := v.tries(t, hard, filepath.Join(v.home, "log")); code != 2 || !strings.Contains(said, "it has another name") {
		t.Errorf("exit %d: %s", code, said)
	}
}

// TestAFIFOIsRefusedAtOnce: to open one is to wait for its other end.
func TestAFIFOIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	fifo := filepath.Join(v.home, "m.pid")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"start"}, {"stop"}, {"status"}, {"restart"}} {
		if said, code := v.says(t, append(words, "--pid-file", fifo)...); code == 0 || !strings.Contains(said, fifo+": it is no regular file") {
			t.Errorf("%s: exit %d: %s", words, code, said)
		}
	}
	said, code := v.says(t, "start", "--pid-file", filepath.Join(v.home, "p"), "--log-file", fifo)
	if code == 0 || !strings.Contains(said, "cannot open the log "+fifo+": it is no regular file") {
		t.Errorf("exit %d: %s", code, said)
	}
}

// TestADirectoryThatOthersCanChangeIsRefusedAndNamed: evil could put a link there.
func TestADirectoryThatOthersCanChangeIsRefusedAndNamed(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	h := testbed.NewHost(t)
	open, evils := filepath.Join(v.home, "open"), filepath.Join(v.home, "evils")
	for _, dir := range []string{open, evils, filepath.Join(open, "deep")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		testbed.GiveTo(t, dir, me)
	}
	testbed.GiveTo(t, evils, intruder)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string][2]string{
		open:                        {"others can change " + open, "chmod go-w " + open},
		filepath.Join(open, "deep"): {"others can change " + open, "chmod go-w " + open},
		evils:                       {evils + " belongs to " + intruder, "a FILE where only root and minimail's user may write"},
	} {
		for _, option := range []string{"--pid-file", "--log-file"} {
			file := filepath.Join(dir, "m")
			files := []string{"--pid-file", filepath.Join(v.home, "p"), "--log-file", filepath.Join(v.home, "l"), option, file}
			said, code := v.says(t, append([]string{"start"}, files...)...)
			if code != 2 || !strings.Contains(said, file+": "+want[0]+"\nhint: ") || !strings.Contains(said, want[1]) {
				t.Errorf("%s: exit %d: %s", file, code, said)
			}
			if testbed.Exists(file) {
				t.Errorf("%s has been made", file)
			}
			c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)), files...)
			c.says(t, "FAIL", "files", q(file+": "+want[0]), q(want[1]))
		}
	}
	if said, code := v.says(t, "start", "--pid-file", filepath.Join(v.home, "p"), "--log-file", filepath.Join(v.home, "l")); code != 0 {
		t.Errorf("the home itself: exit %d: %s", code, said)
	}
	_, _ = v.says(t, "stop", "--pid-file", filepath.Join(v.home, "p"))
}

// TestADirectoryThatIsExchangedAllTheTimeGetsRootNothing: me exchanges a
// directory of his for a link to root's, as fast as he can. All of what root
// does before it becomes me is repeated 1,000 times in internal/serve.
func TestADirectoryThatIsExchangedAllTheTimeGetsRootNothing(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	d := filepath.Join(v.home, "d")
	testbed.PlayedBy(t, me, "exchange", d, v.etc)
	for range testbed.Long(15, 1000) {
		_, _ = v.tries(t, filepath.Join(d, "m.pid"), filepath.Join(d, "m.log"))
	}
}

// TestNobodyElseCanHoldTheLock: evil locks, all the time, what of minimail's he
// can open.
func TestNobodyElseCanHoldTheLock(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	dir := testbed.PublicDir(t)
	pid, log := filepath.Join(dir, "m.pid"), filepath.Join(dir, "m.log")
	start := []string{"--pid-file", pid, "--log-file", log}
	if said, code := v.says(t, append([]string{"start"}, start...)...); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	was := pidIn(t, pid)
	testbed.PlayedBy(t, intruder, "lock", pid, filepath.Join(dir, "m.lock"), log)
	if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, "status sees that it died", func() bool { _, code := v.says(t, "status", "-p", pid); return code == 1 })
	if said, code := v.says(t, append([]string{"start"}, start...)...); code != 0 {
		t.Fatalf("after a kill: exit %d: %s", code, said)
	}
	for range 6 {
		if said, code := v.says(t, append([]string{"restart"}, start...)...); code != 0 {
			t.Fatalf("restart: exit %d: %s", code, said)
		}
	}
	if said, code := v.says(t, "stop", "-p", pid); code != 0 {
		t.Fatalf("stop: exit %d: %s", code, said)
	}
	if said, code := v.says(t, "status", "-p", pid); code != 3 {
		t.Errorf("after stop: exit %d: %s", code, said)
	}
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	pid, err := strconv.Atoi(testbed.Read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestRootStopsNobodyThatAUserNames: me has written the pid of a process of
// root's, which is called like minimail, and holds all the locks; or the pid file
// is a link to that of another minimail.
func TestRootStopsNobodyThatAUserNames(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	backup := exec.Command(testbed.FakeProgram(t, "minimail-backup"))
	stdin, err := backup.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := backup.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = backup.Wait() }()
	t.Cleanup(func() { stdin.Close(); <-ended })

	forged := filepath.Join(v.home, "m.pid")
	testbed.Write(t, forged, strconv.Itoa(backup.Process.Pid))
	testbed.Write(t, filepath.Join(v.home, "m.lock"), "")
	for _, f := range []string{forged, filepath.Join(v.home, "m.lock")} {
		testbed.GiveTo(t, f, me)
	}
	testbed.PlayedBy(t, me, "lock", forged, filepath.Join(v.home, "m.lock"))
	for _, word := range []string{"stop", "status"} {
		if said, code := v.says(t, word, "-p", forged); code == 0 || strings.Contains(said, "Running:     yes") {
			t.Errorf("%s: exit %d: %s", word, code, said)
		}
	}
	dir := testbed.PublicDir(t)
	testbed.Write(t, filepath.Join(dir, "m.pid"), strconv.Itoa(backup.Process.Pid)) // root's own
	link := filepath.Join(v.home, "link.pid")
	if err := os.Symlink(filepath.Join(dir, "m.pid"), link); err != nil {
		t.Fatal(err)
	}
	if said, code := v.says(t, "stop", "-p", link); code != 1 || !strings.Contains(said, "cannot trust the pid file "+link) {
		t.Errorf("a link: exit %d: %s", code, said)
	}
	select {
	case <-ended:
		t.Error("root's process was ended")
	default:
	}
}

func init() {
	testbed.Roles["minimail-backup"] = func([]string) int { _, _ = io.Copy(io.Discard, os.Stdin); return 0 }
	// lock FILE... holds what locks it can get, for ever, of new files as well.
	testbed.Roles["lock"] = func(args []string) int {
		held := map[uint64]bool{}
		for first := true; ; first = false {
			for _, name := range args {
				f, err := os.Open(name)
				if err != nil {
					continue
				}
				var st unix.Stat_t
				_ = unix.Fstat(int(f.Fd()), &st)
				if held[st.Ino] || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
					f.Close()
					continue
				}
				held[st.Ino] = true // f stays open, and locked
				kept = append(kept, f)
			}
			if first {
				fmt.Println("locking")
			}
		}
	}
}

var kept []*os.File

// TestNobodyIsNotToBeInAUserNamespace: there, all users whom it does not know are
// called so, and minimail's processes could not be told from theirs.
func TestNobodyIsNotToBeInAUserNamespace(t *testing.T) {
	t.Parallel()
	testbed.NeedRoot(t)
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
	inside := func(argv ...string) string {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if out := inside("id", "-u"); out != "0\n" {
		t.Skipf("no user namespaces here: %s", out)
	}
	dir := testbed.PublicDir(t)
	start := []string{testbed.Program, "-X", "--settings", os.DevNull, "--host", "far", "--pid-file", filepath.Join(dir, "pid"),
		"--forward", fmt.Sprintf("192.0.2.1:%d:%d:localhost:7", testbed.FreePort(t), testbed.FreePort(t))} // not ours: it ends
	refusal := "cannot be uid " + strconv.Itoa(testbed.UidOf(t, "nobody")) + " in a user namespace"
	for name, want := range map[string]string{"nobody": refusal, "games": "cannot listen on 192.0.2.1"} {
		if out := inside(append(start, "--user", name)...); !strings.Contains(out, want) {
			t.Errorf("%s: %s", name, out)
		}
	}
	asHimself := append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, start...)
	for _, argv := range [][]string{asHimself, append(asHimself, "--user", "nobody")} {
		if out := inside(argv...); !strings.Contains(out, refusal) {
			t.Errorf("as nobody: %s", out)
		}
	}
}
