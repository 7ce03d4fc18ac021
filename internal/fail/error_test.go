package fail

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

var errPlain = errors.New("it does not work")

// layers are errors in each other, with what they carry.
var layers = []struct {
	err    error
	text   string
	hint   string
	fix    string
	status int
}{
	{errPlain, "it does not work", "", "", 1},
	{Hint(errPlain, "ask %s", "root"), "it does not work", "ask root", "# ask root", 1},
	{Hint(Hint(errPlain, "ask root"), "ask nobody"), "it does not work", "ask root", "# ask root", 1},
	{Hint(errPlain, "id # may tell"), "it does not work", "id # may tell", "id # may tell", 1},
	{Exit(errPlain, 4), "it does not work", "", "", 4},
	{Exit(Hint(errPlain, "ask root"), 4), "it does not work", "ask root", "# ask root", 4},
	{Hint(Exit(errPlain, 4), "ask root"), "it does not work", "ask root", "# ask root", 4},
	{Exit(Exit(errPlain, 4), 3), "it does not work", "", "", 3},
	{fmt.Errorf("so: %w", Hint(fmt.Errorf("then: %w", Exit(errPlain, 1)), "ask root")), "so: then: it does not work", "ask root", "# ask root", 1},
	{Hint(Exit(syscall.EMFILE, 2), "another FILE"), "too many open files", scarce[syscall.EMFILE], scarce[syscall.EMFILE], 1},
}

func TestAnErrorCarriesItsHintAndItsStatusThroughOthers(t *testing.T) {
	for _, c := range layers {
		if c.err.Error() != c.text || HintOf(c.err) != c.hint || Fix(c.err) != c.fix || Status(c.err) != c.status {
			t.Errorf("%#v: %q, hint %q, fix %q, status %d; want %q, %q, %q, %d", c.err,
				c.err, HintOf(c.err), Fix(c.err), Status(c.err), c.text, c.hint, c.fix, c.status)
		}
		if !errors.Is(c.err, errPlain) && !errors.Is(c.err, syscall.EMFILE) {
			t.Errorf("%#v: the first reason is lost", c.err)
		}
	}
	if Status(nil) != 0 || HintOf(nil) != "" || Silent(0) != nil {
		t.Errorf("without an error: status %d, hint %q, %v", Status(nil), HintOf(nil), Silent(0))
	}
	if err := Silent(1); err == nil || err.Error() != "" || Status(err) != 1 {
		t.Errorf("silent: %v, status %d", err, Status(err))
	}
}

func TestAPersonReadsWhatAndHowToMendIt(t *testing.T) {
	for want, err := range map[string]error{
		"minimail: it does not work\n":                                          errPlain,
		"minimail: a?[31m?b\nhint: ask?root\n":                                  Hint(errors.New("a\x1b[31m\nb"), "ask\nroot"),
		"minimail: too many open files\nhint: " + scarce[syscall.EMFILE] + "\n": syscall.EMFILE,
		"": Silent(3),
	} {
		var out bytes.Buffer
		if Print(&out, err); out.String() != want {
			t.Errorf("%v: %q, want %q", err, out.String(), want)
		}
	}
}

func TestAHintIsSaidAgainInOtherWords(t *testing.T) {
	louder := func(hints []string) []string {
		if len(hints) != 1 {
			t.Errorf("asked for %q", hints)
		}
		return []string{strings.ToUpper(hints[0]), "and no other"}
	}
	if err := Rehint(Exit(Hint(errPlain, "ask root"), 4), louder); HintOf(err) != "ASK ROOT" || Status(err) != 4 || !errors.Is(err, errPlain) {
		t.Errorf("%v, hint %q, status %d", err, HintOf(err), Status(err))
	}
	none := func([]string) []string { t.Error("asked for no hint"); return nil }
	if err := Rehint(errPlain, none); err != errPlain {
		t.Errorf("%v", err)
	}
	if err := Rehint(nil, none); err != nil {
		t.Errorf("%v", err)
	}
}

func TestAFileThatCannotBeUsedIsNamedOnce(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}
	for _, c := range []struct {
		err        error
		text, hint string
	}{
		{File("cannot read", "/x", missing), "cannot read /x: no such file or directory", ""},
		{File("cannot read", "/x", errPlain), "cannot read /x: it does not work", ""},
		{Read("cannot read", "/x", "--file", missing), "cannot read /x: no such file or directory", "--file another FILE"},
		{Read("cannot read", "/x", "--file", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}), "cannot read /x: permission denied", "run it with sudo"},
		{Read("cannot read", "/x", "--file", errPlain), "cannot read /x: it does not work", "--file another FILE"},
	} {
		if c.err == nil || c.err.Error() != c.text || HintOf(c.err) != c.hint {
			t.Errorf("%v, hint %q; want %s, %q", c.err, HintOf(c.err), c.text, c.hint)
		}
	}
	if !errors.Is(File("cannot read", "/x", missing), fs.ErrNotExist) {
		t.Error("the reason is lost")
	}
}

func TestAnAddressThatCannotBeHadIsNamedOnce(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25}
	taken := os.NewSyscallError("bind", syscall.EADDRINUSE)
	for want, err := range map[string]error{
		"cannot listen on 127.0.0.1:25: address already in use": &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: taken},
		"so: listen tcp 127.0.0.1:25: it does not work":         fmt.Errorf("so: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: errPlain}),
		"listen tcp: bind: address already in use":              &net.OpError{Op: "listen", Net: "tcp", Err: taken},
		"bind: address already in use":                          taken,
		"it does not work":                                      errPlain,
	} {
		if got := Address(err); got == nil || got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}
