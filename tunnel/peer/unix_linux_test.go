package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestAUnixSocketIsTheLaunchsOrRefused: whoever may write into its directory may
// have put it there.
func TestAUnixSocketIsTheLaunchsOrRefused(t *testing.T) {
	dir, err := os.MkdirTemp("", "near-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	near, evil := filepath.Join(dir, "near"), filepath.Join(dir, "evil")
	left := newLaunch(play(t, fake("ssh", "-L", near+":far:25")).pid(), []string{near + ":far:25"})
	launched := play(t, fake("ssh", "-L", near+":far:25"))
	l := newLaunch(launched.pid(), []string{near + ":far:25"})
	proves(t, l, "unix", near)
	refuses(t, left, "unix", near, fmt.Sprintf("^%s belongs to another ssh, pid %d: ", near, launched.pid()))

	moved := filepath.Join(dir, "moved")
	if err := os.Rename(near, moved); err != nil {
		t.Fatal(err)
	}
	refuses(t, l, "unix", moved, fmt.Sprintf("^%s has been moved there from %s$", moved, near))
	if err := os.Rename(moved, near); err != nil {
		t.Fatal(err)
	}
	proves(t, l, "unix", near)

	other := play(t, as(t, intruder, fake("ssh", "-L", evil+":far:25")))
	if err := os.Chmod(evil, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(from, to string) error{"linked": os.Symlink, "another name": os.Link} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(near)
			if err := put(evil, near); err != nil {
				t.Fatal(err)
			}
			refuses(t, l, "unix", near, fmt.Sprintf(`^%s is held by ssh, pid %d, uid %d \(%s\), not by our ssh$`, near, other.pid(), uidOf(t, intruder), intruder))
		})
	}
}
