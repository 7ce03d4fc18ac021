package settings

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

func TestALineThatCannotBeReadSaysWhatIsWrongWithIt(t *testing.T) {
	unset(t)
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "MINIMAIL_MAX_CLIENTS=0\n")
	for line, want := range map[string][2]string{
		"--host":                    {"option --host needs a value", "--host DEST [user@]host, or a Host of ssh_config; required"},
		"-v -p":                     {"option -p needs a value", "-p, --pid-file FILE root: /run/minimail.pid"},
		"--foreground=perhaps":      {`--foreground "perhaps": expected true or false`, ""},
		"stop start":                {`one command at a time: "start" is left over`, "minimail --help shows the usage"},
		"--max-clients 0":           {`--max-clients "0": expected a number above zero`, ""},
		"--settings " + file:        {`--max-clients (MINIMAIL_MAX_CLIENTS in ` + file + `, line 1) "0": expected a number above zero`, ""},
		"--max-clients x":           {`--max-clients "x": expected a number above zero`, ""},
		"--idle 8760h1ns":           {`--idle "8760h1ns": expected a time of a year at most`, ""},
		"--idle 99999999h":          {`--idle "99999999h": expected a time of a year at most`, ""},
		"-p ~/pid":                  {`--pid-file "~/pid": expected the whole path: no shell is there to say whose home ~ is`, ""},
		"--ssh=":                    {`--ssh "": expected a program`, ""},
		"--ssh-config /dev/fd/3":    {`--ssh-config "/dev/fd/3": expected a regular file: each ssh reads it anew`, ""},
		"--ssh-config /dev/zero":    {`--ssh-config "/dev/zero": expected a regular file: each ssh reads it anew`, ""},
		"--host a$b":                {`--host "a$b": expected [user@]host as it is: no shell is there to expand it`, ""},
		"--host a`b":                {"--host \"a`b\": expected [user@]host as it is: no shell is there to expand it", ""},
		"--idle x --host=":          {`--idle "x": expected a time such as 30, 90s or 1m30s`, ""},
		"--ssh-option A\tB=C":       {`--ssh-option "A\tB=C": expected KEYWORD=VALUE, as in ssh_config(5)`, ""},
		"--settings=":               {`--settings "": expected a file name: it is empty`, ""},
		"settings --nagios":         {"--nagios means nothing to settings: it is for check", ""},
		"--settings /dev/zero":      {"cannot read the settings /dev/zero: it is no regular file", "--settings another FILE # the daemon reads it once more, and so does a restart"},
		"--settings " + file + "/x": {"cannot read the settings " + file + "/x: not a directory", "--settings another FILE"},
		"settings MINIMAIL_NOTHING": {`unknown setting "MINIMAIL_NOTHING"`, "minimail settings lists them"},
	} {
		_, err := settingsFor(t, append([]string{"-p", "/p", "-l", "/l", "--settings", os.DevNull, "--host", "far"}, strings.Split(line, " ")...)...)
		if err == nil || err.Error() != want[0] || fail.HintOf(err) != want[1] || fail.Status(err) != fail.Usage {
			t.Errorf("%s: %v, hint %q, status %d; want %s, %q", line, err, fail.HintOf(err), fail.Status(err), want[0], want[1])
		}
	}
}

func TestWhatIsKnownComesWithAnError(t *testing.T) {
	for word, args := range map[string][]string{"": {"--json", "check", "--nonsense"}, "status": {"status", "--json", "--nagios"}, "check": {"check", "--json", "--idle", "x"}} {
		if s, err := settingsFor(t, append(args, "--settings", os.DevNull)...); err == nil || !s.JSON || s.Word != word || len(s.Args()) == 0 {
			t.Errorf("%q: %+v, %v", args, s, err)
		}
	}
	if s, err := settingsFor(t, "--json", "strat"); err == nil || !s.JSON {
		t.Errorf("%+v, %v", s, err)
	}
	for _, option := range []string{"-h", "-V"} { // they need nothing else
		if s, err := settingsFor(t, option, "nonsense"); err != nil || s.Help == s.Version || s.Help != (option == "-h") {
			t.Errorf("%s: %+v, %v", option, s, err)
		}
	}
}

func TestTheEnvironmentNamesTheSettingsFileUnlessAnOptionDoes(t *testing.T) {
	unset(t)
	file, missing := filepath.Join(t.TempDir(), "settings"), filepath.Join(t.TempDir(), "missing")
	testbed.Write(t, file, "MINIMAIL_HOST=far\n")
	t.Setenv("MINIMAIL_SETTINGS", file)
	if s := settingsOf(t); s.Host != "far" || s.File() != file {
		t.Errorf("%q, %q", s.Host, s.File())
	}
	if s, err := settingsFor(t, "--settings", os.DevNull); err == nil || s.Host != "" || s.File() != os.DevNull {
		t.Errorf("%q, %q, %v", s.Host, s.File(), err)
	}
	t.Setenv("MINIMAIL_SETTINGS", missing)
	if _, err := settingsFor(t, "--host", "far"); err == nil || err.Error() != "cannot read the settings "+missing+": no such file or directory" {
		t.Errorf("one that is missing: %v", err)
	}
}

func TestWhereRootHasCalledSudoNobodyIsMeant(t *testing.T) {
	unset(t)
	for who, want := range map[string]string{"root": "", "me": "me", "": ""} {
		t.Setenv("SUDO_USER", who)
		t.Setenv("MINIMAIL_HOST", "root") // that is a host
		if s := settingsOf(t, "--settings", os.DevNull); s.User != want || s.Host != "root" {
			t.Errorf("SUDO_USER=%s: user %q, host %q", who, s.User, s.Host)
		}
	}
}

func TestANameThatMeansToBeOursIsOneLetterAway(t *testing.T) {
	for name, want := range map[string]bool{
		"MINIMAIL_ANYTHING": true, "MINIMAIL_HOST": true, "SUDO_USER": true, "minimail_host": true,
		"MINIMAL_HOST": true, "MINIMAIIL_HOST": true, "MINIMAUL_HOST": true, "MINIMAIL-HOST": true,
		"MINMAL_HOST": false, "MIINIMAIIL_HOST": false, "MAXIMAIL_HOST": false, "SUDO_USERS": false, "": false, "HOST": false,
	} {
		if got := isOurs(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlyWhatCanBeReadAgainIsRead(t *testing.T) {
	dir := t.TempDir()
	file, fifo, link, null := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "null")
	testbed.Write(t, file, "text")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("/proc/self/status", link), os.Symlink(os.DevNull, null)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		any, our error // of Open, and of the settings file's
	}{
		{file, nil, nil},
		{fifo, ErrIrregular, ErrIrregular},
		{dir, syscall.EISDIR, syscall.EISDIR},
		{filepath.Join(dir, "missing"), os.ErrNotExist, os.ErrNotExist},
		{os.DevNull, ErrIrregular, nil},
		{null, ErrIrregular, nil},
	} {
		for want, try := range map[error]func(string) (*os.File, error){c.any: Open, c.our: open} {
			f, err := try(c.name)
			if !errors.Is(err, want) || (f == nil) != (want != nil) {
				t.Errorf("%s: %v, %v, want %v", c.name, f, err, want)
			}
			if f != nil {
				f.Close()
			}
		}
	}
	if _, err := open("/dev/fd/9999"); err != ErrIrregular {
		t.Errorf("what a caller has open: %v", err)
	}
	if _, err := os.Stat("/proc/self/status"); err == nil {
		for _, name := range []string{"/proc/self/status", link} {
			if _, err := Open(name); err != ErrIrregular {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAFileThatBreaksOffIsNamedWithItsLine(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("MINIMAIL_HOST=far\n\n"), iotest.ErrReader(syscall.EIO))
	entries, err := parseFile(broken, "/f")
	if err == nil || err.Error() != "cannot read the settings /f, line 3: input/output error" || !reflect.DeepEqual(entries, map[string][]entry{"MINIMAIL_HOST": {{"far", "/f, line 1"}}}) {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestWithoutANameADaemonHasThePlacesOfItsUser(t *testing.T) {
	unset(t)
	t.Setenv("HOME", t.TempDir())
	for line, want := range map[string][2]bool{ // whether there is a default pid file, and a log
		"start": {true, true}, "start -X": {true, true}, "start -p /p": {false, true}, "start -X -p /p": {false, false}, "start -p /p -l /l": {false, false},
		"status -p /p": {false, false}, "stop -p /p": {false, false}, "check -p /p": {false, false}, "status -l /l": {true, false}, "settings -p /p": {false, true},
	} {
		s := settingsOf(t, append(strings.Fields(line), "--settings", os.DevNull, "--host", "far")...)
		pids := s.PidFiles()
		if got := [2]bool{s.PidFile == pids[0], s.LogFile == DefaultLog()}; got != want || s.PidFileNamed == want[0] || DefaultLog() == "" {
			t.Errorf("%s: %q, %q", line, s.PidFile, s.LogFile)
		}
		if !want[0] && s.PidFile != "/p" || strings.Contains(line, "-l") && s.LogFile != "/l" || !want[1] && !strings.Contains(line, "-l") && s.LogFile != "" {
			t.Errorf("%s: %q, %q", line, s.PidFile, s.LogFile)
		}
	}
	if root := os.Geteuid() == 0; root && (DefaultLog() != "/var/log/minimail.log" || !reflect.DeepEqual(Settings{}.PidFiles(), []string{RunDir() + "/minimail.pid"})) {
		t.Errorf("root: %q, %q", DefaultLog(), Settings{}.PidFiles())
	}
	dir := filepath.Join(t.TempDir(), "d")
	testbed.Write(t, dir+"file", "")
	if IsDir(dir) || IsDir(dir+"file") || !IsDir(filepath.Dir(dir)) || IsDir("/run") != (RunDir() == "/run") || !IsDir("/run") && RunDir() != "/var/run" {
		t.Errorf("what is a directory: %s", RunDir())
	}
}
