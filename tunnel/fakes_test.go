package tunnel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// The fakes that run launches of their own, or see what one of ours would.

// beParent runs a tunnel, and keeps it until it is killed.
func beParent(args []string) int {
	t := New(Config{Command: runs(fake("echo", "unix", args[0])), Idle: time.Hour, Log: zerolog.New(os.Stderr)})
	go t.Run(context.Background())
	if _, err := t.Dial(context.Background(), "unix", args[0], nil); err != nil {
		say(err.Error())
		return 1
	}
	fmt.Println("up")
	select {}
}

// beInit runs a launch that leaves children behind, and reports whether they
// have been reaped.
func beInit([]string) int {
	l := newLaunch(Command{Argv: []string{"/bin/sh", "-c", "sleep 60 & sleep 60 & echo the last line of ssh itself >&2; exit 1"}})
	if err := New(Config{}).ssh(l.life, l); err == nil || err.Error() != "the last line of ssh itself" {
		say(fmt.Sprint("the launch ended because of ", err))
		return 1
	}
	pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	say(fmt.Sprint("as pid ", os.Getpid(), ": ", pid, " ", err))
	return 0
}

// bePoor has no descriptors left for a launch, or only for the first of its pipes,
// and keeps what it has.
func bePoor([]string) int {
	r, w, err := os.Pipe() // what the runtime needs for one, it has now
	if err == nil {
		r.Close()
		w.Close()
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64})
	}
	if err != nil {
		say(err.Error())
		return 1
	}
	for left := range 4 {
		all := take()
		release(all[:left])
		l := newLaunch(Command{Argv: []string{"/bin/true"}})
		err := New(Config{}).ssh(l.life, l)
		if f := failureOf(err); err == nil || !strings.HasPrefix(err.Error(), "cannot make a pipe for ssh: ") || f.kind != Unseen || f.hopeless {
			say(fmt.Sprint("the launch ended because of ", err))
			return 1
		}
		again := take()
		if len(again) != left {
			say(fmt.Sprint("of ", left, " descriptors ", len(again), " are left"))
			return 1
		}
		release(append(all[left:], again...))
	}
	return 0
}

// take takes all descriptors that can be had.
func take() (all []int) {
	for {
		fd, err := syscall.Dup(2)
		if err != nil {
			return all
		}
		all = append(all, fd)
	}
}

func release(all []int) {
	for _, fd := range all {
		syscall.Close(fd)
	}
}

// beRich has an ambient capability, and says what it has and what ssh gets of it.
func beRich([]string) int {
	const look = "grep CapAmb /proc/self/status"
	out, err := exec.Command("sh", "-c", look).Output()
	if err != nil {
		say(err.Error())
		return 1
	}
	l := newLaunch(Command{Argv: []string{"sh", "-c", look + " >&2"}})
	err = New(Config{}).ssh(l.life, l)
	fmt.Printf("%q, %q", strings.Join(strings.Fields(string(out)), " "), fmt.Sprint(err))
	return 0
}

// settle makes a directory the root, and says which uids then stand for anybody.
func settle(args []string) int {
	if err := syscall.Chroot(args[0]); err != nil {
		say(err.Error())
		return 1
	}
	fmt.Print(slices.DeleteFunc([]int{0, 1, 99, 1000, 65533, 65534, 65535}, func(uid int) bool { return !IsAnybody(uid) }))
	return 0
}
