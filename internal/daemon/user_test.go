package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func TestRootBecomesSomebodyElse(t *testing.T) {
	testbed.NeedRoot(t)
	who, err := ToBecome(settings.Settings{User: testbed.RunAs})
	if err != nil || who == nil || who.Username != testbed.RunAs {
		t.Errorf("%+v, %v", who, err)
	}
	for name, c := range map[string][2]string{
		"":      {"no user to become: root has to become somebody else", nameSomebody},
		"root":  {"the user to become must not be root", nameSomebody},
		"xyzzy": {`there is no user "xyzzy" on this machine`, "getent passwd # lists the names"},
	} {
		who, err := ToBecome(settings.Settings{User: name})
		if says(t, name, err, c[0], c[1], fail.Usage); who != nil {
			t.Errorf("%s: %+v", name, who)
		}
	}
}

// TestOnlyRootBecomesSomebody also says what others can do.
func TestOnlyRootBecomesSomebody(t *testing.T) {
	for name, want := range map[string]string{
		"":               "<nil> <nil> 0 ",
		testbed.Intruder: "<nil> <nil> 0 ",
		"games":          "<nil> only root can become games 4 run it with sudo, or --user " + testbed.Intruder + " for one of your own",
		"root":           "<nil> the user to become must not be root 2 " + nameSomebody,
	} {
		if got := asUser(t, testbed.Intruder, "becomes", name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func init() {
	plays["becomes"] = func(args []string) int {
		who, err := ToBecome(settings.Settings{User: args[0]})
		fmt.Printf("%v %v %d %s", who, err, fail.Status(err), fail.HintOf(err))
		return 0
	}
}

func TestAUidIsANumber(t *testing.T) {
	if err := refuseAnybody("x"); !errors.Is(err, strconv.ErrSyntax) {
		t.Error(err)
	}
	if err := refuseAnybody("1"); err != nil {
		t.Error(err)
	}
	if uid, err := uidOf(nil); uid != os.Getuid() || err != nil {
		t.Errorf("%d, %v", uid, err)
	}
	if uid, err := uidOf(&user.User{Uid: "7"}); uid != 7 || err != nil {
		t.Errorf("%d, %v", uid, err)
	}
	if _, err := FindFor("/f", &user.User{Uid: "x"}); !errors.Is(err, strconv.ErrSyntax) {
		t.Error(err)
	}
}

// TestWithoutATerminalNobodyIsAskedForAPassword: stdin is none in tests.
func TestWithoutATerminalNobodyIsAskedForAPassword(t *testing.T) {
	for _, status := range []int{fail.NeedsRoot, fail.Usage} {
		if err := fail.Exit(errors.New("x"), status); WithSudo(settings.Settings{}, err) != err {
			t.Error("it is another error")
		}
	}
	if err := WithSudo(settings.Settings{}, nil); err != nil {
		t.Error(err)
	}
}

func TestASocketThatOthersCanReplaceIsWarnedOf(t *testing.T) {
	dir := t.TempDir()
	open, sticky := filepath.Join(dir, "open"), filepath.Join(dir, "sticky")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Mkdir(sticky, 0o700), os.Chmod(sticky, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	install := "sudo install -d -m 700 -o " + UserName() + " " + sticky + "/minimail # and let TUNNEL be in there"
	var specs []forward.Spec
	var all []string
	for _, c := range [][3]string{
		{dir, "", ""},
		{open, "others can change " + open, "chmod go-w " + open},
		{sticky, "others can write into " + sticky, install},
		{filepath.Join(dir, "missing"), "", ""},
	} {
		socket := filepath.Join(c[0], "s")
		if why, mend := IsShared(socket, os.Getuid()); why != c[1] || mend != c[2] {
			t.Errorf("%s: %q, %q; want %q", socket, why, mend, c[1:])
		}
		specs = append(specs, forward.Spec{Near: socket}, forward.Spec{Near: "127.0.0.1:1025"})
		if c[1] != "" {
			all = append(all, c[1]+": they can keep mail from leaving, though not read it, by a socket of their own in place of "+socket)
		}
	}
	s := settings.Settings{Forwards: specs}
	if got := Shared(s, os.Getuid()); !slices.Equal(got, all) {
		t.Errorf("%q, want %q", got, all)
	}
	if os.Geteuid() == 0 {
		s.User = testbed.RunAs
	}
	warned := said(t, &os.Stderr, func() { warnOfShared(s) })
	if n := strings.Count(warned, "minimail: warning: "); n < 2 || n != strings.Count(warned, "\n") || !strings.Contains(warned, "minimail: warning: others can change "+open+": they") {
		t.Errorf("it says %s", warned)
	}
	s.Foreground = true // there the log says it
	if got := said(t, &os.Stderr, func() { warnOfShared(s) }); got != "" {
		t.Errorf("in the foreground: %s", got)
	}
	s.Foreground, s.User = false, "xyzzy" // which is the error, then
	if got := said(t, &os.Stderr, func() { warnOfShared(s) }); got != "" {
		t.Errorf("for nobody: %s", got)
	}
}
