package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestALockThatIsRemovedMeanwhileIsNotTheLock: who ends removes it while we wait.
func TestALockThatIsRemovedMeanwhileIsNotTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	done := make(chan struct{})
	var remover sync.WaitGroup
	remover.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = os.Remove(lockFile(path))
			}
		}
	})
	had := 0
	for range 500 {
		p, err := Lock(path, nil)
		if err == nil {
			had++
			p.unlock()
		} else if !errors.As(err, new(ErrRunning)) { // it was removed each time
			t.Error(err)
		}
	}
	close(done)
	remover.Wait()
	if had == 0 {
		t.Error("nobody has got it")
	}
}
