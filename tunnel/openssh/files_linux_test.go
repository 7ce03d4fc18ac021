package openssh

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// asNobody runs f on a thread of its own that may read what nobody may.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and end it with the goroutine
		if os.Geteuid() == 0 {
			// access(2) asks for the real uid, of this thread only.
			if _, _, err := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, ^uintptr(0), ^uintptr(0)); err != 0 {
				panic(err)
			}
		}
		f()
	}()
	<-done
}

func TestAFileOfKnownHostsThatSSHMayNotReadIsNamed(t *testing.T) {
	dir := testbed.PublicDir(t)
	may, mayNot := empty(t, filepath.Join(dir, "may")), empty(t, filepath.Join(dir, "may-not"))
	for file, mode := range map[string]os.FileMode{may: 0o644, mayNot: 0} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	for names, want := range map[string]string{may: "", may + " " + mayNot: mayNot, filepath.Join(dir, "none"): ""} {
		var got string
		if asNobody(func() { got = (Files{Config: Config{"userknownhostsfile": {names}}}).Unreadable() }); got != want {
			t.Errorf("of %q: %q, want %q", names, got, want)
		}
	}
}
