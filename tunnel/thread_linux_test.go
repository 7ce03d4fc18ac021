package tunnel

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// The kernel ends ssh when the thread that has started it ends. Here all
// threads end that Go may give to goroutines; ssh's must not be one of them.
func TestSSHOutlivesEveryThreadThatIsNotItsOwn(t *testing.T) {
	socket := filepath.Join(short(t), "near")
	r := command(t, Config{Argv: fake("echo", "unix", socket)})
	dialSoon(t, "unix", socket)
	threads := func() int {
		all, _ := os.ReadDir("/proc/self/task")
		return len(all)
	}
	before := threads()
	const more = 50
	var held, ended sync.WaitGroup
	held.Add(more)
	leave := make(chan struct{})
	for range more {
		ended.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			held.Done()
			<-leave
		})
	}
	held.Wait() // each on a thread of its own
	most := threads()
	close(leave)
	ended.Wait()
	for deadline := time.Now().Add(soon); threads() > max(before, most-more/2); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d threads, before: %d, at most: %d", threads(), before, most)
		}
	}
	for range 200 { // while it would end
		c := dialSoon(t, "unix", socket)
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatalf("ssh has gone with a thread: %v", err)
		}
		c.Close()
	}
	select {
	case err := <-r.err:
		t.Errorf("ended because of %v", err)
	default:
	}
}
