package serve

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// TestWhatRootDoesIsDoneInNoPlaceOfAUsers repeats what root does before it gives
// itself up, while the user exchanges a directory for a link to one of root's. No
// file of root's changes, and none is made.
func TestWhatRootDoesIsDoneInNoPlaceOfAUsers(t *testing.T) {
	testbed.NeedRoot(t)
	who, err := user.Lookup(testbed.RunAs)
	if err != nil {
		t.Fatal(err)
	}
	home, etc := testbed.PublicDir(t), testbed.PublicDir(t)
	testbed.GiveTo(t, home, testbed.RunAs)
	testbed.Write(t, filepath.Join(etc, "m.log"), "")
	d := filepath.Join(home, "d")
	testbed.PlayedBy(t, testbed.RunAs, "exchange", d, etc)
	seen := map[string]int{}
	met := func() (found, refused int) {
		for why, n := range seen {
			if strings.HasPrefix(why, "cannot open the log "+d) {
				refused += n
			}
		}
		return seen["found"], refused
	}
	both := func() bool {
		found, refused := met()
		return found > 0 && refused > 0
	}
	for n, began := 0, time.Now(); n < 1000 || !both() && time.Since(began) < testbed.Patience; n++ {
		k, err := newKept(settings.Settings{PidFile: filepath.Join(d, "m.pid"), LogFile: filepath.Join(d, "m.log")}, who)
		if err != nil {
			seen[err.Error()]++
			continue
		}
		seen["found"]++
		if !k.usersPid || !k.usersLog {
			t.Fatalf("root takes them for its own: pid file %v, log %v", !k.usersPid, !k.usersLog)
		}
		if err := k.lock(); err != nil {
			t.Fatal(err)
		}
		if err := k.open(); err != nil || k.pid != nil || k.control != nil {
			t.Fatalf("%v; pid file %v, control socket %v", err, k.pid, k.control)
		}
		if files, err := os.ReadDir(etc); err != nil || len(files) != 1 {
			t.Fatalf("root's directory has %v, %v", files, err)
		}
	}
	fi, err := os.Stat(filepath.Join(etc, "m.log"))
	if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 || fi.Size() != 0 {
		t.Errorf("root's file: %v, %v", fi, err)
	}
	if !both() {
		t.Errorf("both sides of the exchange should have been met: %v", seen)
	}
}
