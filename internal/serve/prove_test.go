package serve

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// The signal comes while prove hears that its ssh has ended, as that of a whole
// group does.
func TestASignalWhileSSHIsProvedIsNotLost(t *testing.T) {
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\nkill -TERM $PPID\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	heard := 0
	for range 20 {
		out, err := exec.Command(testbed.FakeProgram(t, "proves"), ssh).CombinedOutput()
		heard += strings.Count(string(out), "heard\n")
		var exit *exec.ExitError
		ended := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM // it came when nobody listened: not lost either
		if err != nil && !ended {
			t.Fatalf("after %d signals: %v\n%s", heard, err, out)
		}
		if heard >= 100 {
			return
		}
	}
	t.Errorf("%d signals were heard", heard)
}

func init() {
	testbed.Roles["proves"] = func(args []string) int {
		for range 100 {
			if _, err := prove(settings.Settings{SSH: args[0]}); !errors.Is(err, errStopped) {
				fmt.Println(err)
				return 1
			}
			fmt.Println("heard")
		}
		return 0
	}
}

func TestAnSSHThatCannotBeRunIsAWrongSetting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ssh")
	for _, make := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(path, []byte("no program"), 0o755) },
		func() error { // it is not there any more for the second question
			return os.WriteFile(path, []byte("#!/bin/sh\nrm \"$0\"; echo OpenSSH_9.2p1 >&2\n"), 0o755)
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		_, err := prove(settings.Settings{SSH: path})
		if err == nil || !strings.HasPrefix(err.Error(), "cannot run ssh: ") || fail.Status(err) != fail.Usage {
			t.Errorf("%v", err)
		}
	}
}
