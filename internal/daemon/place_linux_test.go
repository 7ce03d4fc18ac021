package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

func TestOnlyAReadOnlyFileSystemIsFrozen(t *testing.T) {
	inWorld(t)
	dir := testbed.PublicDir(t)
	if err := PidFileFits(filepath.Join(dir, "m.pid"), nil); err != nil {
		t.Error(err)
	}
	if err := frozen(filepath.Join(dir, "missing")); err != nil {
		t.Errorf("what is not there is: %v", err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	testbed.Write(t, filepath.Join(dir, "log"), "")
	if err := os.Symlink(filepath.Join(t.TempDir(), "log"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "mode=755"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log", "new"} {
		path := filepath.Join(dir, name)
		says(t, name, LogFits(path, nil), "cannot open the log "+path+": read-only file system", "--log-file another FILE", fail.Failure)
	}
	path := filepath.Join(dir, "m.pid")
	says(t, "a pid file", PidFileFits(path, nil), "cannot open the pid file "+path+": read-only file system", "--pid-file another FILE", fail.Failure)
	if err := LogFits(filepath.Join(dir, "link"), nil); err != nil {
		t.Errorf("where a link leads elsewhere: %v", err)
	}
}

func TestALogThatRootMakesIsTheUsersAlone(t *testing.T) {
	testbed.NeedRoot(t)
	uid := testbed.UidOf(t, testbed.RunAs)
	dir := testbed.PublicDir(t)
	if err := errors.Join(os.Chown(dir, 0, gidOf(t, games)), os.Chmod(dir, 0o755|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	place, err := Find(filepath.Join(dir, "log"), uid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := place.Append(0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := os.Lstat(place.real); err != nil || OwnerOf(fi) != uid || fi.Mode() != 0o600 || int(fi.Sys().(*syscall.Stat_t).Gid) != gidOf(t, games) {
		t.Errorf("%v, %v", fi, err)
	}
}
