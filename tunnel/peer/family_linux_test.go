package peer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// script is a wrapper around ssh; $SSH is ssh's path, and 3 is its stdin.
func script(t *testing.T, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wrapper-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "ssh")
	text = strings.ReplaceAll(text, "$SSH", filepath.Join(fakes, "ssh"))
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexec 3<&0\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// nears are a near end of each network, as -L has it.
func nears(t *testing.T) map[string]string {
	return map[string]string{"tcp": "0", "unix": filepath.Join(t.TempDir(), "near")}
}

// launchOf plays what tunnel launches: a command that is asked for a near end,
// with our mark.
func launchOf(t *testing.T, program, near string, more ...string) (*launch, *played) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"-N", "-L", near + ":far:25", "--", "far"}, more...)...)
	cmd.Env = append(os.Environ(), Mark())
	p := play(t, cmd)
	t.Cleanup(func() { _ = syscall.Kill(-p.pid(), syscall.SIGKILL) })
	return newLaunch(p.pid(), []string{near + ":far:25"}), p
}

// TestAWrappersSSHBelongsToTheLaunch, however the wrapper starts it.
func TestAWrappersSSHBelongsToTheLaunch(t *testing.T) {
	for name, text := range map[string]string{
		"exec":                     `exec $SSH "$@"`,
		"no exec":                  `$SSH "$@"; true`,
		"more options":             `$SSH -v -4 "$@" 3<&-; true`,
		"a session of its own":     `setsid $SSH "$@"; true`,
		"a group of its own":       `set -m 2>/dev/null; $SSH "$@" <&3 & wait`,
		"two shells between":       `sh -c "sh -c '$SSH \"\$@\"; true' - \"\$@\"; true" - "$@"; true`,
		"no environment":           `env -i $SSH "$@"; true`,
		"only its group":           `( env -i $SSH "$@" <&3 & ); exec sleep 1000 >/dev/null`,
		"only its parent":          `setsid env -i $SSH "$@" <&3; true`,
		"detached":                 `setsid -f $SSH "$@" <&3; exec sleep 1000 >/dev/null`,
		"detached in a background": `( ( setsid $SSH "$@" <&3 & ) & ); exec sleep 1000 >/dev/null`,
	} {
		for network, near := range nears(t) {
			t.Run(name+", "+network, func(t *testing.T) {
				l, p := launchOf(t, script(t, text), near)
				proves(t, l, network, p.at)
			})
		}
	}
}

// TestWhatSSHStartsIsNotTakenForIt: the ssh of a ProxyCommand may have forwards of
// its own, from ssh_config, and leads somewhere else.
func TestWhatSSHStartsIsNotTakenForIt(t *testing.T) {
	for name, text := range map[string]string{
		"in ssh's group": `$SSH -L NEAR:other:25 jump <&3; true`,
		"detached":       `setsid -f $SSH -L NEAR:other:25 jump <&3; exec sleep 1000 >/dev/null`,
	} {
		for network, near := range nears(t) {
			t.Run(name+", "+network, func(t *testing.T) {
				l, p := launchOf(t, script(t, strings.ReplaceAll(text, "NEAR", near)), near)
				refuses(t, l, network, p.at, "belongs to another ssh, pid ")
			})
		}
	}
}

// TestAnSSHWithTheSameCommandLineIsNotTheLaunchs, be it somebody else's, or an
// earlier launch's of ours.
func TestAnSSHWithTheSameCommandLineIsNotTheLaunchs(t *testing.T) {
	for network, near := range nears(t) {
		t.Run(network, func(t *testing.T) {
			l, p := launchOf(t, filepath.Join(fakes, "ssh"), near)
			started := exec.Command("setsid", "-f", "sh", "-c", `exec "$@"`, "-", filepath.Join(fakes, "ssh"), "-N", "-L", near+":far:25")
			started.Env = []string{} // without the mark
			proves(t, l, network, p.at)
			other := play(t, started)
			refuses(t, l, network, other.at, "belongs to another ssh, pid ")
			if network == "unix" { // it has taken the path
				return
			}

			// But one of an earlier launch of ours is in the way of this one.
			isEnded(t, "an earlier launch's", newLaunch(later(t, p.pid()), l.forwards), network, p)
		})
	}
}

// TestOnlyALaunchsOwnAreSwept: not an earlier launch's, who began before, nor who has
// not our mark, nor who does not ask for our near ends.
func TestOnlyALaunchsOwnAreSwept(t *testing.T) {
	ssh, near := filepath.Join(fakes, "ssh"), nears(t)["unix"]
	l, p := launchOf(t, ssh, near)
	stranger := exec.Command(ssh, "-N", "-L", near+"2:far:25")
	stranger.Env = []string{}
	other := play(t, stranger)
	for name, spared := range map[string]struct {
		p *played
		l *launch
	}{
		"an earlier launch's": {p, newLaunch(later(t, p.pid()), l.forwards)},
		"no mark":             {other, newLaunch(p.pid(), []string{near + "2:far:25"})},
		"another near end":    {p, newLaunch(p.pid(), []string{near + "3:far:25"})},
	} {
		spared.l.sweep()
		if _, err := dial(t, "unix", spared.p.at).Read(make([]byte, 1)); err != nil { // it greets no more
			t.Errorf("%s: %v", name, err)
		}
	}
	l.sweep()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.pid(), &status, 0, nil); err != nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v, %v", status.Signal(), err)
	}
}

func TestAParentThatIsYoungerThanItsChildIsNone(t *testing.T) {
	l := &launch{Process: Process{PID: 10, Began: 5}}
	for name, c := range map[string]struct {
		began uint64 // of process 11, which process 10 has started
		bore  bool
	}{
		"older":   {6, true},
		"as old":  {7, true},
		"younger": {8, false},
	} {
		all := map[int]Process{11: {PID: 11, Parent: 10, Name: "sh", Began: c.began}}
		of := func(pid int) Process { return all[pid] }
		if got := l.bore(Process{PID: 12, Parent: 11, Name: "ssh", Began: 7}, of); got != c.bore {
			t.Errorf("%s: %v", name, got)
		}
	}
	second := &launch{Process: Process{PID: 2, Began: 5}} // of a minimail that is pid 1: a container's
	if !second.bore(Process{PID: 3, Parent: 2, Began: 6}, nil) {
		t.Error("the child of pid 2")
	}
	for name, p := range map[string]Process{
		"the child of nobody":           {PID: 12, Parent: 13, Began: 7},
		"an orphan":                     {PID: 12, Parent: 1, Began: 7},
		"its own parent, if there were": {PID: 12, Parent: 12, Name: "ssh", Began: 7},
	} {
		if l.bore(p, func(pid int) Process { return map[int]Process{12: p}[pid] }) {
			t.Error(name)
		}
	}
}

// The pid of a launch that has ended may be another's by now.
func TestAPidIsNobodyWithoutTheTimeOfItsStart(t *testing.T) {
	for network, near := range nears(t) {
		l, p := launchOf(t, filepath.Join(fakes, "ssh"), near)
		l.Began--
		refuses(t, l, network, p.at, "belongs to another ssh, pid ")
	}
	l, p := launchOf(t, script(t, `setsid $SSH "$@"; true`), "0")
	l.Began--
	refuses(t, l, "tcp", p.at, "belongs to another ssh, pid ")
}

func init() {
	roles["renamed"] = func(args []string) int {
		if err := os.WriteFile("/proc/self/comm", []byte(args[0]), 0); err != nil {
			fmt.Println(err)
			return 1
		}
		return serve(args[1:])
	}
}

// A process may call itself whatever it likes, in 15 bytes.
func TestANameCannotFeignAParent(t *testing.T) {
	cmd := fake("renamed", fmt.Sprintf("x) S %d 1\x1b", 1), "tcp", "127.0.0.1:0")
	p := play(t, cmd)
	got := ProcessOf(p.pid())
	if got.Parent != os.Getpid() || got.Group != p.pid() || got.Name != "x) S 1 1?" {
		t.Errorf("%+v", got)
	}
	refuses(t, this(), "tcp", p.at, `is held by x\) S 1 1\?, pid `)
}

// ssh -f leaves its socket to a child: who has called listen(2) is no more, and
// its pid may be anybody's by now.
func TestAUnixSocketWhoseListenerIsNoMoreIsRefused(t *testing.T) {
	near := filepath.Join(t.TempDir(), "near")
	p := play(t, fake("forking", near))
	_ = p.cmd.Wait() // the child has the socket now
	l := newLaunch(p.pid(), nil)
	if l.Name != "" {
		t.Skip("its pid is another's: good luck")
	}
	c := dial(t, "unix", near)
	_ = onSocket(c, func(fd int) error {
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == unix.ENOPROTOOPT {
			t.Skip("this kernel does not tell")
		}
		return nil
	})
	err := l.leads(t.Context(), c, near)
	if want := fmt.Sprintf("to whom pid %d, which has ended, has left it, not by our ssh", p.pid()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("a pid is taken for the process that had it: %v", err)
	}
}

func init() {
	roles["forking"] = func(args []string) int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: args[0]})
		}
		if err == nil {
			err = unix.Listen(fd, 8)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		child := exec.Command("cat") // which has our stdin, and the socket
		child.Stdin = os.Stdin
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "near")}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(args[0])
		return 0
	}
}

// TestAnSSHThatADeadMinimailHasLeftBehindIsEnded, and no other.
func TestAnSSHThatADeadMinimailHasLeftBehindIsEnded(t *testing.T) {
	dead := exec.Command("sleep", "1000")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	its := ProcessOf(dead.Process.Pid)
	mark := func(p Process) string {
		return fmt.Sprintf("%s%s %d %d", markName, pidNamespace(), p.PID, p.Began)
	}
	for network, near := range nears(t) {
		t.Run(network, func(t *testing.T) {
			left := func(marks ...string) *played {
				cmd := fake("ssh", "-L", near+":far:25")
				cmd.Env = marks
				return play(t, cmd)
			}
			l := newLaunch(os.Getpid(), []string{"another"})
			for name, m := range map[string]string{
				"of ours, later":    Mark(),
				"of a living one":   mark(its),
				"of somewhere else": fmt.Sprintf("%spid:[1] %d 1", markName, 1<<30),
				"without a mark":    "LAUNCHED_BY=somebody",
				"with half a mark":  markName + pidNamespace(),
			} {
				p := left(m)
				refuses(t, l, network, p.at, "belongs to another ssh, pid ")
				if ProcessOf(p.pid()).Name == "" {
					t.Errorf("%s: it is gone", name)
				}
				p.end()
			}
			for name, m := range map[string]string{
				"of one whose pid is another's by now": mark(Process{PID: its.PID, Began: its.Began - 1}),
				"of ours, earlier":                     Mark(),
			} {
				p := left(m)
				isEnded(t, name, newLaunch(later(t, p.pid()), []string{"another"}), network, p)
			}
		})
	}
	_ = dead.Process.Kill()
	if _ = dead.Wait(); dead.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("a minimail that was only looked at has ended: %s", dead.ProcessState)
	}
	if !isOrphaned(mark(its)) {
		t.Error("a minimail that has ended is not taken for dead")
	}
}

// A minimail is process 1 in a container, and nobody is process 0.
func TestAMarkIsOfAProcess(t *testing.T) {
	for pid, want := range map[int]bool{1: true, 0: false, -1: false} {
		if _, ok := parseMark(fmt.Sprintf("%s%s %d 5", markName, pidNamespace(), pid)); ok != want {
			t.Errorf("pid %d: %v", pid, ok)
		}
	}
}

// later is a process that has begun later than another one. The kernel counts in
// hundredths of a second.
func later(t *testing.T, than int) int {
	t.Helper()
	for {
		if p := play(t, exec.Command("sh", "-c", "echo; exec cat")); ProcessOf(p.pid()).Began > ProcessOf(than).Began {
			return p.pid()
		}
	}
}

// isEnded fails the test unless who listens is named, and ended.
func isEnded(t *testing.T, name string, l *launch, network string, p *played) {
	t.Helper()
	err := l.listens(network, p.at)
	if network == "unix" {
		err = l.leads(t.Context(), dial(t, network, p.at), p.at)
	}
	if want := fmt.Sprintf("is held by ssh, pid %d, ", p.pid()); err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "left behind by an earlier launch: told to go") {
		t.Errorf("%s: %v", name, err)
		return
	}
	_ = p.cmd.Wait()
	if !p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("%s: it ended by itself: %s", name, p.cmd.ProcessState)
	}
}
