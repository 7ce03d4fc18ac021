package daemon

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minimail/internal/testbed"
)

// games is a user whose group is called like him.
const games = "games"

// TestWhoseTheWayToAFileIs: root's alone, or also the user's; or it is refused.
func TestWhoseTheWayToAFileIs(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	mk := func(name string, mode os.FileMode, owner, group string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, testbed.UidOf(t, owner), gidOf(t, group)), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to, from, owner string) string {
		t.Helper()
		if err := errors.Join(os.Symlink(to, from), os.Lchown(from, testbed.UidOf(t, owner), -1)); err != nil {
			t.Fatal(err)
		}
		return from
	}
	roots, users := mk("roots", 0o755, "root", "root"), mk("users", 0o755, games, games)
	public, open := mk("public", 0o777|os.ModeSticky, "root", "root"), mk("open", 0o777, games, games)
	private, shared := mk("private", 0o775, games, games), mk("shared", 0o775, games, testbed.Intruder)
	evils, wheel := mk("evils", 0o755, testbed.Intruder, testbed.Intruder), mk("wheel", 0o775, "root", testbed.Intruder)
	games0 := mk("games0", 0o775, "root", games)
	sticky := mk("sticky", 0o755|os.ModeSticky, "root", "root")
	below := filepath.Join(public, "roots")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	acl := mk("acl", 0o775, games, games)
	if err := unix.Setxattr(acl, "system.posix_acl_access", oneMore(testbed.UidOf(t, testbed.Intruder)), 0); err != nil {
		t.Logf("no access control lists here: %v", err)
		acl = open
	}
	loop := link("loop", filepath.Join(roots, "loop"), "root")
	for path, want := range map[string]string{
		roots:                           "root's",
		users:                           "the user's",
		public:                          "the user's", // he can have made the file
		below:                           "root's",     // in a sticky directory it stays
		private:                         "the user's",
		open:                            "others can change " + open,
		open + "/../roots":              "others can change " + open,
		shared:                          "others can change " + shared,
		wheel:                           "others can change " + wheel,
		games0:                          "others can change " + games0,
		acl:                             "others can change " + acl,
		evils:                           evils + " belongs to " + testbed.Intruder,
		users + "/../roots":             "the user's", // he could have a link there
		loop:                            "too many levels",
		filepath.Join(roots, "missing"): "no such file",
		link(roots, filepath.Join(roots, "l"), "root"):                                   "root's",
		link("../roots", filepath.Join(users, "l"), games):                               "the user's",
		link(roots, filepath.Join(public, "l"), "root"):                                  "root's",
		link(roots, filepath.Join(public, "u"), games):                                   "the user's",
		link(roots, filepath.Join(public, "e"), testbed.Intruder):                        filepath.Join(public, "e") + " belongs to " + testbed.Intruder,
		link(roots, filepath.Join(sticky, "e"), testbed.Intruder):                        "root's", // who has put it there
		link(roots, filepath.Join(private, "e"), testbed.Intruder):                       "the user's",
		link(filepath.Join(open, "no"), filepath.Join(roots, "leads-elsewhere"), "root"): "others can change " + open,
	} {
		p, err := Find(path+"/file", testbed.UidOf(t, games))
		got := map[bool]string{true: "the user's", false: "root's"}[p.Users]
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestAUsersGroupIsPrivateOnlyIfNobodyElseIsInIt: his directory is his even if his
// group can change it. A member of it could put another file there.
func TestAUsersGroupIsPrivateOnlyIfNobodyElseIsInIt(t *testing.T) {
	testbed.NeedRoot(t)
	for i, c := range []struct {
		name    string
		members []string
		other   string // whose own group it is as well
		private bool
	}{
		{"lonely", nil, "", true},
		{"herself", []string{"herself"}, "", true},
		{"joined", []string{testbed.Intruder}, "", false},
		{"joined-too", []string{"joined-too", testbed.Intruder}, "", false},
		{"shared", nil, "sharer", false},
	} {
		id := 23500 + i
		testbed.AddGroup(t, c.name, id, c.members...)
		testbed.AddAccount(t, c.name, id, id, "/nonexistent")
		if c.other != "" {
			testbed.AddAccount(t, c.other, id+100, id, "/nonexistent")
		}
		dir := testbed.PublicDir(t)
		if err := errors.Join(os.Chown(dir, id, id), os.Chmod(dir, 0o775)); err != nil {
			t.Fatal(err)
		}
		if _, err := Find(filepath.Join(dir, "file"), id); (err == nil) != c.private {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestANameThatNoFileCanHaveIsNoPlace(t *testing.T) {
	if p, err := Find(filepath.Join("/", strings.Repeat("long", 64)), 0); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("%+v, %v", p, err)
	}
}

func gidOf(t *testing.T, name string) int {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return gid
}

// oneMore is an access control list as the kernel keeps it (linux/posix_acl_xattr.h):
// rwx for the owner, for one user more, for the group; r-x for others.
func oneMore(uid int) []byte {
	list := []byte{2, 0, 0, 0}
	for _, e := range []struct {
		tag, perm byte
		id        uint32
	}{{0x01, 7, 1<<32 - 1}, {0x02, 7, uint32(uid)}, {0x04, 7, 1<<32 - 1}, {0x10, 7, 1<<32 - 1}, {0x20, 5, 1<<32 - 1}} {
		list = append(list, e.tag, 0, e.perm, 0, byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	return list
}

// TestADeviceCanBeALogWhereRootAloneCanPutIt: a disk cannot.
func TestADeviceCanBeALogWhereRootAloneCanPutIt(t *testing.T) {
	testbed.NeedRoot(t)
	dir := testbed.PublicDir(t)
	disk := filepath.Join(dir, "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 255))); err != nil {
		t.Skip("no devices can be made here: ", err)
	}
	if _, err := LogPlace(disk, nil); err == nil || !strings.Contains(err.Error(), "it is no regular file") {
		t.Errorf("a disk: %v", err)
	}
	p, err := LogPlace(os.DevNull, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Append(0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), syscall.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#o, %v", flags, err)
	}
}
