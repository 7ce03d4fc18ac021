package daemon

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// said is what do writes to one of ours: &os.Stdout, &os.Stderr.
func said(t *testing.T, to **os.File, do func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var text []byte
	var reading sync.WaitGroup
	reading.Go(func() { text, _ = io.ReadAll(r) })
	was := *to
	*to = w
	func() {
		defer func() { *to = was; w.Close() }()
		do()
	}()
	reading.Wait()
	return string(text)
}

// parsed are settings, without a file.
func parsed(t *testing.T, word string, options ...string) settings.Settings {
	t.Helper()
	var words []settings.Word
	for _, name := range []string{"start", "stop", "restart", "reload", "status", "check"} {
		words = append(words, settings.Word{Name: name})
	}
	s, err := settings.Parse(append(append([]string{"--settings", os.DevNull}, options...), word), words)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// player is another process, or user. By its name it is a minimail.
const player = "minimail-player"

// plays are what it can play.
var plays = map[string]func(args []string) int{}

func init() {
	testbed.Roles[player] = func(args []string) int { return plays[args[0]](args[1:]) }
}

// asUser is what a user says who plays something.
func asUser(t *testing.T, name, what string, args ...string) string {
	t.Helper()
	testbed.NeedRoot(t)
	uid := uint32(testbed.UidOf(t, name))
	cmd := exec.Command(testbed.FakeProgram(t, player), append([]string{what}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return string(out)
}
