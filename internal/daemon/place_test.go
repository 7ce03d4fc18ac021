package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// says checks an error, its hint and its exit status.
func says(t *testing.T, what string, err error, want, hint string, status int) {
	t.Helper()
	if err == nil || err.Error() != want || fail.HintOf(err) != hint || fail.Status(err) != status {
		t.Errorf("%s: %v, hint %q, status %d;\nwant %s, hint %q, status %d", what, err, fail.HintOf(err), fail.Status(err), want, hint, status)
	}
}

func TestWhatKeepsAFileFromItsPlaceHasACure(t *testing.T) {
	t.Setenv("SUDO_UID", "")
	dir := t.TempDir()
	here := Place{path: filepath.Join(dir, "x y", "f"), real: filepath.Join(dir, "a", "b", "f"), uid: os.Getuid()}
	mkdir := "mkdir -p " + filepath.Join(dir, "a", "b")
	for _, c := range []struct {
		err    error
		why    string
		hint   string
		status int
	}{
		{&fs.PathError{Op: "open", Path: "/else", Err: syscall.ENOENT}, "no such file or directory", mkdir + " # or --option another FILE", fail.Usage},
		{syscall.EACCES, "permission denied", "run it with sudo, or --option a FILE where you may write", fail.Failure},
		{syscall.ENOSPC, "no space left on device", "df -h '" + dir + "/x y'; df -i '" + dir + "/x y' # one of them is full; or --option another FILE", fail.Failure},
		{exposed{"it is bare", "chmod it"}, "it is bare", "chmod it # or --option another FILE", fail.Usage},
		{exposed{"it is bare", ""}, "it is bare", "--option a FILE where only root and minimail's user may write", fail.Usage},
		{syscall.EIO, "input/output error", "--option another FILE", fail.Failure},
		{syscall.EISDIR, "is a directory", "--option another FILE", fail.Usage},
		{syscall.ENOTDIR, "not a directory", "--option another FILE", fail.Usage},
		{syscall.ELOOP, "too many levels of symbolic links", "--option another FILE", fail.Usage},
		{syscall.ENAMETOOLONG, "file name too long", "--option another FILE", fail.Usage},
		{settings.ErrIrregular, settings.ErrIrregular.Error(), "--option another FILE", fail.Usage},
	} {
		says(t, c.why, about("cannot do", here.path, "--option", here, c.err), "cannot do "+here.path+": "+c.why, c.hint, c.status)
	}
	if err := about("cannot do", "/f", "--option", here, nil); err != nil {
		t.Error(err)
	}
}

// TestAMissingDirectoryIsMadeByWhoCan and belongs to who is to write there.
func TestAMissingDirectoryIsMadeByWhoCan(t *testing.T) {
	testbed.NeedRoot(t)
	uid := testbed.UidOf(t, testbed.RunAs)
	for sudo, prefix := range map[string]string{"": "", "1000": "sudo "} {
		t.Setenv("SUDO_UID", sudo)
		for users, want := range map[bool]string{false: "mkdir -p ", true: "install -d -o " + testbed.RunAs + " "} {
			if got := (Place{Users: users, real: "/nowhere/a/f", uid: uid}).makeDirectory(); got != prefix+want+"/nowhere/a" {
				t.Errorf("the user's: %v: %s", users, got)
			}
		}
	}
}

func TestRootIsAskedForADirectoryWhereAUserMayMakeNone(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	own, shut := filepath.Join(dir, "own"), filepath.Join(dir, "shut")
	for _, d := range []string{own, shut} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testbed.GiveTo(t, own, testbed.Intruder)
	testbed.GiveTo(t, shut, testbed.Intruder)
	if err := os.Chmod(shut, 0o600); err != nil { // may be written, and not entered
		t.Fatal(err)
	}
	for at, want := range map[string]string{own: "mkdir -p " + own + "/a/b", dir: "sudo install -d -o " + testbed.Intruder + " " + dir + "/a/b", shut: "sudo install -d -o " + testbed.Intruder + " " + shut + "/a/b"} {
		if got := asUser(t, testbed.Intruder, "lacks-directory", at+"/a/b/f"); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

func init() {
	plays["lacks-directory"] = func(args []string) int {
		os.Stdout.WriteString(Place{Users: true, real: args[0], uid: os.Getuid()}.makeDirectory())
		return 0
	}
}

func TestALogIsARegularFileOfOnesOwnWithOneName(t *testing.T) {
	dir := t.TempDir()
	file, second, link, real := filepath.Join(dir, "file"), filepath.Join(dir, "second"), filepath.Join(dir, "link"), filepath.Join(dir, "real")
	testbed.Write(t, file, "old\n")
	if err := errors.Join(os.Link(file, second), os.Symlink(second, link), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Symlink(real, filepath.Join(dir, "good"))); err != nil {
		t.Fatal(err)
	}
	ls := func(f string) string { return "ls -l " + f + " # or --log-file another FILE" }
	for path, c := range map[string][2]string{
		file:                       {"it has another name, a hard link", ls(file)},
		link:                       {"it has another name, a hard link", ls(link)}, // nobody is to look where it leads
		filepath.Join(dir, "fifo"): {"it is no regular file", ls(filepath.Join(dir, "fifo"))},
		dir:                        {"is a directory", "--log-file another FILE"},
	} {
		_, err := LogPlace(path, nil)
		says(t, path, err, "cannot open the log "+path+": "+c[0], c[1], fail.Usage)
		if LogFits(path, nil) == nil {
			t.Errorf("%s fits", path)
		}
		place, err := Find(path, os.Getuid())
		if err != nil {
			t.Fatal(err)
		}
		if f, err := place.Append(0o600); f != nil || err == nil || err.Error() != "cannot open the log "+path+": "+c[0] {
			t.Errorf("%s is opened: %v", path, err)
		}
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	for path, at := range map[string]string{file: file, filepath.Join(dir, "good"): real} {
		for range 2 { // makes it, and finds it
			place, err := LogPlace(path, nil)
			if err != nil || LogFits(path, nil) != nil {
				t.Fatal(path, err, LogFits(path, nil))
			}
			f, err := place.Append(0o640)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString("new\n")
			f.Close()
		}
		fi, err := os.Lstat(at)
		if err != nil || at == real && fi.Mode() != 0o640 {
			t.Errorf("%v, %v", fi, err)
		}
	}
	if got := testbed.Read(t, file) + testbed.Read(t, real); got != "old\nnew\nnew\nnew\nnew\n" {
		t.Errorf("in them is %q", got)
	}
}

func TestALogInNoDirectoryIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "log")
	f, err := Place{path: path, real: path}.Append(0o600)
	if f != nil || err == nil || err.Error() != "cannot open the log "+path+": no such file or directory" {
		t.Errorf("%v, %v", f, err)
	}
}

func TestADaemonHasNoStreamToLogTo(t *testing.T) {
	for _, path := range []string{"/dev/stdout", "/dev/stderr"} {
		_, err := LogPlace(path, nil)
		says(t, path, err, "cannot open the log "+path+": a daemon has none", "minimail -X # or --log-file another FILE", fail.Usage)
	}
}

func TestAFileOfSomebodyElsesIsNotTaken(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	file, link := filepath.Join(dir, "m.log"), filepath.Join(dir, "link")
	testbed.Write(t, file, "")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	testbed.GiveTo(t, file, testbed.Intruder)
	why := ": it belongs to " + testbed.Intruder + ", not to root"
	_, err := LogPlace(file, nil)
	says(t, "it", err, "cannot open the log "+file+why, "sudo chown root "+file+" # or --log-file another FILE", fail.Usage)
	_, err = LogPlace(link, nil)
	says(t, "a link", err, "cannot open the log "+link+why, "ls -l "+link+" # or --log-file another FILE", fail.Usage)
	pid := filepath.Join(dir, "m.pid")
	testbed.Write(t, pid, "")
	testbed.GiveTo(t, pid, testbed.Intruder)
	_, err = PidFilePlace(pid, nil)
	says(t, "a pid file", err, "cannot open the pid file "+pid+why, "sudo chown root "+pid+" # or --pid-file another FILE", fail.Usage)
	if err := PidFileFits(pid, nil); err == nil {
		t.Error("it fits")
	}
	if err := os.Chown(pid, 0, -1); err != nil {
		t.Fatal(err)
	}
	p, err := Find(pid, testbed.UidOf(t, testbed.RunAs))
	if err != nil || isPidFile(p.real, p.uid) != nil { // root's is as good
		t.Errorf("%v, %v", err, isPidFile(p.real, p.uid))
	}
}

func TestTheLogIsNoneOfThePidFilesOwnFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) Place { return Place{path: "./" + name, real: filepath.Join(dir, name)} }
	for _, name := range []string{"m.pid", "m.lock", "m.sock"} {
		says(t, name, at("m.pid").Apart(at(name)), "cannot open the log ./"+name+": it is the pid file, or its lock or socket", "--log-file another FILE", fail.Usage)
	}
	if err := at("m.pid").Apart(at("m.log")); err != nil {
		t.Error(err)
	}
}
