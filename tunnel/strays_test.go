package tunnel

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
)

// grandchild launches a ssh with a child and returns a connection that ends
// when that child does.
func grandchild(t *testing.T, kind string) (*running, net.Conn) {
	t.Helper()
	socket := filepath.Join(short(t), "s")
	r := command(t, Config{Command: runs(fake("grandfather", kind, socket))})
	c := dialSoon(t, "unix", socket)
	if _, err := c.Read(make([]byte, 1)); err != nil { // its greeting
		t.Fatal(err)
	}
	return r, c
}

// sees the end of the program at the other side of c.
func seesEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program at the other end lives on: %v", err)
	}
}

func TestWhatSSHHasStartedGoesWithIt(t *testing.T) {
	r, c := grandchild(t, "member")
	r.ends(t, "the last line of ssh itself")
	seesEnd(t, c)
}

func TestWhatSSHHasStartedIsToldToGo(t *testing.T) {
	r, c := grandchild(t, "member that is told")
	r.stop(nil)
	if word, err := io.ReadAll(c); string(word) != "T" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", word, err)
	}
	if err := r.end(t); err != nil {
		t.Errorf("ended because of %v", err)
	}
}

func TestOverADeadConnectionNobodyIsToldToGo(t *testing.T) {
	r, c := grandchild(t, "member that is told")
	why := failure{why: lostError{"nothing has come"}, kind: Unseen}
	r.stop(why)
	if word, err := io.ReadAll(c); len(word) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", word, err)
	}
	r.ends(t, "nothing has come")
}

func TestWhoHasLeftSSHsGroupIsSweptWhenItHasEnded(t *testing.T) {
	swept := make(chan int, 2)
	prove := func(pid int) Proof {
		return Proof{Sweep: func() {
			if syscall.Kill(pid, 0) == syscall.ESRCH {
				swept <- pid
			}
		}}
	}
	r := command(t, Config{Command: runs(fake("speaker", "1", "word")), Prove: prove})
	r.ends(t, "word")
	if len(swept) != 1 || <-swept != r.pid(t) {
		t.Errorf("swept %d times", len(swept))
	}
}

func TestAStrayThatKeepsSSHsStderrOpenHoldsNobodyUp(t *testing.T) {
	r, c := grandchild(t, "stray")
	r.ends(t, "the last line of ssh itself") // while the stray lives
	if _, err := c.Write([]byte{1}); err != nil {
		t.Errorf("the stray was not there any more: %v", err)
	}
	seesEnd(t, c)
}
