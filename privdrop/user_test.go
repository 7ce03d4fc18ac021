package privdrop

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake puts a program first where programs are looked for, as root or not.
func fake(t *testing.T, program, script string) {
	t.Helper()
	dir := openDir(t)
	if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	lookIn(t, append([]string{dir}, systemPath...)...)
}

// pathVar is for the child of a test: it replaces systemPath.
const pathVar = "PRIVDROP_TEST_PATH"

// lookIn has root look for programs elsewhere.
func lookIn(t *testing.T, dirs ...string) {
	was := systemPath
	systemPath = dirs
	t.Setenv(pathVar, strings.Join(dirs, ":")) // for a child
	t.Cleanup(func() { systemPath = was })
}

// TestRootTakesNoProgramFromPATH: it may be a user's, with a directory of his.
func TestRootTakesNoProgramFromPATH(t *testing.T) {
	asRoot(t)
	was := systemPath
	mark := filepath.Join(openDir(t), "mark")
	for _, program := range []string{"getent", "id"} {
		fake(t, program, "touch "+mark)
	}
	systemPath = was // PATH alone is the user's
	if _, err := Lookup("ldapuser"); err == nil {
		t.Error("ldapuser is known")
	}
	if _, _, groups, err := ids(entry(t)); err != nil || len(groups) == 0 {
		t.Errorf("%v, %v", groups, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program of the user's was run by root")
	}
}

func TestWhatCannotBeRunIsNoProgram(t *testing.T) {
	asRoot(t)
	data, program, directory := openDir(t), openDir(t), openDir(t)
	if err := os.Mkdir(filepath.Join(directory, "getent"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, mode := range map[string]os.FileMode{data: 0o644, program: 0o755} {
		if err := os.WriteFile(filepath.Join(dir, "getent"), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	lookIn(t, directory, data, program)
	if got, want := Program("getent"), filepath.Join(program, "getent"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// fakeGetent knows one user only.
func fakeGetent(t *testing.T, name, line string) {
	t.Helper()
	fake(t, "getent", `[ "$#" = 3 ] && [ "$1" = passwd ] && [ "$2" = -- ] && [ "$3" = '`+name+`' ] || exit 2
echo '`+line+`'`)
}

// impatient makes a program that does not answer be given up soon.
func impatient(t *testing.T) {
	was := patience
	patience = 50 * time.Millisecond
	t.Cleanup(func() { patience = was })
}

func TestAUserOfADirectoryServiceIsFoundByGetent(t *testing.T) {
	for _, name := range []string{"ldapuser", "-v"} {
		t.Run(name, func(t *testing.T) {
			fakeGetent(t, name, name+":x:65533:65532:A User,,,:/home/ldap:/bin/ldapsh")
			u, err := Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			if u.Username != name || u.Uid != "65533" || u.Gid != "65532" || u.HomeDir != "/home/ldap" || u.Name != "A User,,," {
				t.Errorf("%+v", u)
			}
			if _, err := Lookup("another-user"); err == nil {
				t.Error("and somebody else as well")
			}
		})
	}
}

func TestWithoutGetentAnUnknownUserIsSaidToBeUnknown(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	lookIn(t, t.TempDir())
	u, err := Lookup("ldapuser")
	if u != nil || err == nil || err.Error() != `there is no user "ldapuser" on this machine` {
		t.Errorf("%v, %v", u, err)
	}
}

func TestWhatGetentSaysHasToBeAPasswdLine(t *testing.T) {
	for _, line := range []string{"", "ldapuser", "ldapuser:x:65533", "ldapuser:x:65533:65532:A User:/home/ldap:/bin/sh:more"} {
		fakeGetent(t, "ldapuser", line)
		if u, err := Lookup("ldapuser"); err == nil {
			t.Errorf("%q makes %+v", line, u)
		}
	}
}

func TestALookUpNeedsNoGetentForWhoIsInPasswd(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	lookIn(t, t.TempDir())
	for _, want := range users(t) {
		u, err := Lookup(want[0])
		if err != nil || u.Uid != want[2] || u.Gid != want[3] || u.HomeDir != want[5] {
			t.Errorf("%+v, %v", u, err)
		}
		if s := shell(want[0]); s != want[6] {
			t.Errorf("the shell of %s is %q, not %q", want[0], s, want[6])
		}
	}
}

func TestADirectoryServiceThatDoesNotAnswerIsNamed(t *testing.T) {
	impatient(t)
	fake(t, "getent", "exec sleep 600")
	_, err := Lookup("ldapuser")
	if want := `cannot look up the user "ldapuser": getent has not answered for 50ms`; err == nil || err.Error() != want {
		t.Errorf("%v, not: %s", err, want)
	}
}

// TestWhatAProgramHasStartedIsNotWaitedFor, though it has the program's stdout.
func TestWhatAProgramHasStartedIsNotWaitedFor(t *testing.T) {
	fifo := filepath.Join(openDir(t), "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close() // with which cat ends
	fake(t, "getent", "cat <"+fifo+" & exit 2")
	if _, err := Lookup("ldapuser"); !errors.As(err, new(Unknown)) {
		t.Error(err)
	}
	fake(t, "getent", "cat <"+fifo+" & echo ldapuser:x:65533:65532:A User:/home/ldap:/bin/sh")
	if u, err := Lookup("ldapuser"); err != nil || u.Uid != "65533" {
		t.Errorf("%+v, %v", u, err)
	}
	fake(t, "getent", "cat <"+fifo+" & printf %s ldapuser:x:65533:65532:AUser:/home/ldap:/bin/s")
	if u, err := Lookup("ldapuser"); !errors.As(err, new(Unknown)) {
		t.Errorf("half a line: %+v, %v", u, err)
	}
}

func TestWhoCannotBeLookedUpForWantOfFilesIsNotUnknown(t *testing.T) {
	fakeGetent(t, "ldapuser", "ldapuser:x:65533:65532:A User:/home/ldap:/bin/sh")
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := Lookup("ldapuser")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if errors.As(err, new(Unknown)) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("got %v", err)
	}
}

// entry is the passwd line of a user that only /etc/group knows of.
func entry(t *testing.T) *user.User {
	t.Helper()
	u := users(t)[len(users(t))-1]
	return &user.User{Username: u[0], Uid: u[2], Gid: u[3]}
}

func TestTheGroupsAreThoseThatIdSays(t *testing.T) {
	u := entry(t)
	fake(t, "id", `[ "$*" = "-G -- `+u.Username+`" ] && echo 65530 4 65531`)
	uid, gid, groups, err := ids(u)
	if err != nil || strconv.Itoa(uid) != u.Uid || strconv.Itoa(gid) != u.Gid || !slices.Equal(groups, []int{65530, 4, 65531}) {
		t.Errorf("%d, %d, %v, %v", uid, gid, groups, err)
	}
}

func TestGroupsThatAreNoNumbersAreRefused(t *testing.T) {
	fake(t, "id", "echo 65530 many")
	if _, _, groups, err := ids(entry(t)); err == nil || !strings.Contains(err.Error(), "many") {
		t.Errorf("%v, %v", groups, err)
	}
}

func TestWithoutAnAnswerFromIdTheGroupsAreThoseOfTheFile(t *testing.T) {
	u := entry(t)
	for name, script := range map[string]string{"it fails": "echo 65530; exit 1", "it says nothing": "", "it hangs": "exec sleep 600"} {
		t.Run(name, func(t *testing.T) {
			impatient(t)
			fake(t, "id", script)
			_, _, groups, err := ids(u)
			slices.Sort(groups)
			if want := groupsOf(t, u.Username, u.Gid); err != nil || !slices.Equal(groups, want) {
				t.Errorf("%v, not %v: %v", groups, want, err)
			}
		})
	}
}

func TestAPrivateGroupHasItsUsersNameAndNobodyElse(t *testing.T) {
	u := users(t)[0]
	for script, want := range map[string]bool{
		"echo ldapuser:x:65532:":              true,
		"echo ldapuser:x:65532:ldapuser":      true,
		"echo ldapuser:x:65532:evil":          false,
		"echo ldapuser:x:65532:ldapuser,evil": false,
		"echo others:x:65532:":                false,
		"echo ldapuser:x:65532":               false,
		"echo ldapuser:x:65532:; exit 1":      false,
	} {
		fake(t, "getent", `[ "$*" = "group 65532" ] || exit 2; `+script)
		if got := IsPrivate(65532, "ldapuser"); got != want {
			t.Errorf("%s: %v", script, got)
		}
	}
	fake(t, "getent", "echo ldapuser:x:"+u[3]+":")
	if IsPrivate(numbers(u[3:4])[0], "ldapuser") {
		t.Errorf("the group is %s's, too", u[0])
	}
}

func TestAnIdIsCalledByItsNameIfItHasOne(t *testing.T) {
	fakeGetent(t, "65533", "ldapuser:x:65533:65532::/:")
	for uid, want := range map[int]string{0: "root", 65533: "ldapuser", 64000: "64000"} {
		if got := Name(uid); got != want {
			t.Errorf("%d is %q, not %q", uid, got, want)
		}
	}
}
