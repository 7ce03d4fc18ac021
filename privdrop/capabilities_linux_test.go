package privdrop

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// aloneVar has a child that is not root say what it can, and try to give it up.
const aloneVar = "PRIVDROP_TEST_ALONE"

// An alone is what such a child says.
type alone struct {
	Verify, Capabilities string
	Cgo                  bool   // it cannot reach all of its threads
	ByPath, Else         string // where a program is, with a PATH and without
}

func sayAlone() {
	var a alone
	a.Verify = text(verify(os.Getuid(), os.Getgid(), nil))
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPPID, 0, 0, 0)
	a.Cgo = errno == syscall.ENOTSUP
	a.Capabilities = text(Capabilities())
	a.ByPath = Program("sh")
	os.Unsetenv("PATH")
	a.Else = Program("sh")
	_ = json.NewEncoder(os.Stdout).Encode(a)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has looked at us
}

// aloneWith is a child that is nobody, with such capabilities, and what it has of
// them when it has given them up.
func aloneWith(t *testing.T, capabilities ...uintptr) (a alone, left []string) {
	t.Helper()
	asRoot(t)
	own := filepath.Join(openDir(t), "own") // go test's is in a place of root's
	d := becoming(t, "", func(c *exec.Cmd) {
		b, err := os.ReadFile(c.Path)
		if err == nil {
			err = os.WriteFile(own, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Path = own
		c.Env = append(c.Env, aloneVar+"=yes", "PATH=/usr/bin:/bin")
		uid, gid := numbers(users(t)[0][2:3])[0], numbers(users(t)[0][3:4])[0]
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, AmbientCaps: capabilities}
	})
	return d.alone, d.left(t)
}

// left is all sets of capabilities that its threads have, without those that are
// empty.
func (d dropped) left(t *testing.T) (all []string) {
	t.Helper()
	for _, th := range d.tasks(t) {
		for _, k := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if set := strings.TrimLeft(strings.Join(th[k], ""), "0"); set != "" && !slices.Contains(all, k+" "+set) {
				all = append(all, k+" "+set)
			}
		}
	}
	return all
}

// TestCapabilitiesAreGivenUpByAllThreads, or it is said why they cannot be.
func TestCapabilitiesAreGivenUpByAllThreads(t *testing.T) {
	a, left := aloneWith(t, unix.CAP_NET_BIND_SERVICE, unix.CAP_KILL)
	if a.Cgo {
		if a.Capabilities != "cannot give up capabilities: this program was built with cgo" || len(left) != 4 {
			t.Errorf("%q, and left are %q", a.Capabilities, left)
		}
		return
	}
	if a.Capabilities != "" || left != nil {
		t.Errorf("%q, and left are %q", a.Capabilities, left)
	}
}

func TestWhoHasNoCapabilityHasNothingToGiveUp(t *testing.T) {
	if a, left := aloneWith(t); a.Capabilities != "" || a.Verify != "" || left != nil {
		t.Errorf("%q, %q, %q", a.Capabilities, a.Verify, left)
	}
}

// TestOneWayBackToRootIsEnoughToFail: its group's, or its own.
func TestOneWayBackToRootIsEnoughToFail(t *testing.T) {
	for _, c := range []uintptr{unix.CAP_SETUID, unix.CAP_SETGID} {
		if a, _ := aloneWith(t, c); a.Verify != "root could be had back" {
			t.Errorf("with capability %d: %q", c, a.Verify)
		}
	}
}

// TestWhoIsNotRootFindsProgramsByPath, if there is one.
func TestWhoIsNotRootFindsProgramsByPath(t *testing.T) {
	a, _ := aloneWith(t)
	if want := Program("sh"); a.ByPath != "sh" || a.Else != want {
		t.Errorf("%q, and without a PATH %q, not %q", a.ByPath, a.Else, want)
	}
}
