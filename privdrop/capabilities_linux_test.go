package privdrop

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

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

// refuseVar has a system call of the child's fail: "NUMBER ERRNO".
const refuseVar = "PRIVDROP_TEST_REFUSE"

// refused is this process anew, with seccomp(2).
func refused(which string) error {
	var call, errno uint32
	if _, err := fmt.Sscan(which, &call, &errno); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // exec(2) keeps what is of this thread
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	os.Unsetenv(refuseVar)
	return unix.Exec(os.Args[0], os.Args, os.Environ())
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
	return aloneRefused(t, "", capabilities...)
}

func aloneRefused(t *testing.T, refused string, capabilities ...uintptr) (a alone, left []string) {
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
		c.Path, c.Args = own, []string{own}
		c.Env = append(c.Env, aloneVar+"=yes", refuseVar+"="+refused, "PATH=/usr/bin:/bin")
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

// TestACapabilityThatCannotBeGivenUpIsAnError, also if the kernel says that it could.
func TestACapabilityThatCannotBeGivenUpIsAnError(t *testing.T) {
	for _, c := range []struct {
		call  int
		errno unix.Errno
		want  string
	}{
		{unix.SYS_CAPSET, unix.EPERM, "cannot give up capabilities: operation not permitted"},
		{unix.SYS_CAPSET, unix.ENOTSUP, "cannot give up capabilities: this program was built with cgo"},
		{unix.SYS_CAPSET, 0, "cannot give up capabilities: some are left"},
		{unix.SYS_CAPGET, unix.EPERM, "cannot read capabilities: operation not permitted"},
	} {
		a, left := aloneRefused(t, fmt.Sprint(c.call, " ", uint32(c.errno)), unix.CAP_NET_BIND_SERVICE)
		if a.Cgo && c.call == unix.SYS_CAPSET {
			c.want = "cannot give up capabilities: this program was built with cgo"
		}
		if a.Capabilities != c.want || len(left) != 4 {
			t.Errorf("%q, and left are %q; want %q", a.Capabilities, left, c.want)
		}
	}
}

func TestIfItCannotBeSeenThatRootIsGivenUpToFails(t *testing.T) {
	asRoot(t)
	d := becoming(t, "nobody", func(c *exec.Cmd) { c.Env = append(c.Env, fmt.Sprintf("%s=%d 1", refuseVar, unix.SYS_GETGROUPS)) })
	if want := "cannot read the groups: getgroups: operation not permitted"; d.Err != want {
		t.Errorf("%q, want %q", d.Err, want)
	}
}
