package serve

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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
