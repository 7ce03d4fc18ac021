package serve

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// The signal comes while prove hears that its ssh has ended, as that of a whole
// group does.
func TestASignalWhileSSHIsProvedIsNotLost(t *testing.T) {
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\nkill -TERM $PPID\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := prove(settings.Settings{SSH: ssh}); !errors.Is(err, errStopped) {
			t.Fatalf("try %d: %v", i, err)
		}
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
