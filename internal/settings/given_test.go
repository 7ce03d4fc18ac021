package settings

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// unset takes all settings out of the environment until the test ends.
func unset(t *testing.T) {
	t.Helper()
	for _, name := range names() {
		t.Setenv(name, "")
	}
}

func TestWhatWasGivenMeansTheSameFromAnywhere(t *testing.T) {
	unset(t)
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testbed.Write(t, "settings", "MINIMAIL_JITTER=7\nMINIMAIL_DRAIN=8\n")
	t.Setenv("MINIMAIL_IDLE", "5")
	t.Setenv("MINIMAIL_SSH_OPTION", "ControlPath=~/x\nB=2")
	t.Setenv("MINIMAIL_LOG_FILE", "l")
	s := settingsOf(t, "check", "--json", "--settings", "settings", "-p", "../p", "--host", "a/b", "--forward", "2525:1025:a:25",
		"--forward", "2526:1026:a:25", "--ssh", "bin/ssh", "--ssh-config=", "-X")
	want := Given{
		Options: []string{"--host=a/b", "--forward=2525:1025:a:25", "--forward=2526:1026:a:25", "--ssh=" + dir + "/bin/ssh", "--ssh-config=",
			"--pid-file=" + filepath.Dir(dir) + "/p", "--settings=" + dir + "/settings", "--foreground=true"},
		Environment: map[string]string{"MINIMAIL_IDLE": "5", "MINIMAIL_SSH_OPTION": "ControlPath=~/x\nB=2", "MINIMAIL_LOG_FILE": dir + "/l"},
	}
	if got := s.Given(); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	s = settingsOf(t, "--settings", os.DevNull, "--host", "far", "--ssh", "other", "--ssh-config", "/c")
	if got, want := s.Given().Options, []string{"--host=far", "--ssh=other", "--ssh-config=/c", "--settings=" + os.DevNull}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Settings{}).Given(); got.Options != nil || got.Environment == nil {
		t.Errorf("of nothing: %#v", got)
	}
}

func TestWhereASettingIsFromCanBeAsked(t *testing.T) {
	unset(t)
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "MINIMAIL_WAIT=8\n")
	t.Setenv("MINIMAIL_IDLE", "5")
	s := settingsOf(t, "check", "--settings", file, "--host", "far", "--json", "--nagios", "-p", "/p", "-u", "me", "--drain", "3")
	if got, want := s.Said(), []string{"--host", "--drain", "--user"}; !slices.Equal(got, want) {
		t.Errorf("said are %q, want %q", got, want)
	}
	for name, want := range map[string][2]bool{"host": {true, false}, "json": {true, false}, "idle": {true, false}, "wait": {true, true}, "jitter": {}} {
		if got := [2]bool{s.Has(name), s.InFile(name)}; got != want {
			t.Errorf("%s: set, in the file: %v, want %v", name, got, want)
		}
	}
	if got, want := s.Args(), []string{"--settings", file, "--host", "far", "--json", "--nagios", "-p", "/p", "-u", "me", "--drain", "3", "check"}; !slices.Equal(got, want) {
		t.Errorf("the command line is %q, want %q", got, want)
	}
	for word, want := range map[string]bool{"start": false, "restart": true, "reload": true, "stop": false, "check": false} {
		if got := (Settings{Word: word}).Replaces(); got != want {
			t.Errorf("%s is about one that runs: %v", word, got)
		}
	}
}

func TestAHintsMinimailIsTheOneThatWasGivenIt(t *testing.T) {
	g := Given{Options: []string{"--host=me@far", "--pid-file=/a b", "--ssh-option=Port=1", "--settings=/s"}}
	const which, others = " '--pid-file=/a b' --settings=/s", " '--pid-file=/a b' --ssh-option=Port=1 --settings=/s"
	for hint, want := range map[string]string{
		"minimail stop":                        "minimail stop" + which,
		"sudo minimail status":                 "sudo minimail status" + which,
		"minimail start":                       "minimail start --host=me@far" + others,
		"kill 7; sudo minimail start":          "kill 7; sudo minimail start --host=me@far" + others,
		"minimail stop; minimail start # or":   "minimail stop" + which + "; minimail start --host=me@far" + others + " # or",
		"minimail check --host HOST # a # b":   "minimail check --host HOST" + others + " # a # b",
		"minimail check --ssh-option A=b":      "minimail check --ssh-option A=b --host=me@far" + others,
		"minimail check --ssh-option 'A=b; c'": "minimail check --ssh-option 'A=b; c' --host=me@far" + others,
		"minimail --forward 1:2:a:3":           "minimail --forward 1:2:a:3 --host=me@far" + others,
		"minimail --help lists the commands":   "minimail --help lists the commands",
		"id # minimail stop":                   "id # minimail stop",
	} {
		if got := g.Again([]string{"", hint, ""}); !slices.Equal(got, []string{want}) {
			t.Errorf("%s:\n%q, want\n%q", hint, got, want)
		}
	}
}

func TestWhatIsSaidNowBeatsWhatTheOneThatRunsWasGiven(t *testing.T) {
	unset(t)
	t.Setenv("MINIMAIL_WAIT", "9")
	t.Setenv("MINIMAIL_DRAIN", "4")
	t.Setenv("SUDO_USER", "now")
	now := settingsOf(t, "restart", "--settings", os.DevNull, "--idle", "5")
	s, err := now.Like(Given{
		Options:     []string{"--host=far", "--idle=7", "--ssh-option=A=b=c", "--max-clients=3"},
		Environment: map[string]string{"MINIMAIL_WAIT": "8", "MINIMAIL_JITTER": "6", "SUDO_USER": "then"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{s.Word, s.Host, s.Idle, s.Wait, s.Jitter, s.Drain, s.User, s.SSHOptions[0], s.MaxClients}
	want := []any{"restart", "far", 5 * time.Second, 9 * time.Second, 6 * time.Second, 4 * time.Second, "then", "A=b=c", 3}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, want := range map[string]string{"MINIMAIL_WAIT": "9", "MINIMAIL_JITTER": "6", "MINIMAIL_DRAIN": "4", "SUDO_USER": "then", "MINIMAIL_HOST": ""} {
		if got := os.Getenv(name); got != want {
			t.Errorf("whoever is started has %s=%q, want %q", name, got, want)
		}
	}
	t.Setenv("SUDO_USER", "now")
	if s, err := now.Like(Given{Options: []string{"--host=far"}}); err != nil || s.User != "now" {
		t.Errorf("user %q, %v", s.User, err)
	}
}

func TestAHostThatIsMissingIsToBePutWhereTheSettingsAre(t *testing.T) {
	unset(t)
	missing := filepath.Join(t.TempDir(), "settings")
	there := filepath.Join(t.TempDir(), "there")
	testbed.Write(t, there, "")
	for file, want := range map[string]string{missing: missing, there: there, os.DevNull: defaultFile} {
		s, err := settingsFor(t, "settings", "--settings", file)
		got := s.NeedHost()
		if got == nil || got.Error() != "no host to log in to" || fail.Status(got) != fail.Usage ||
			fail.HintOf(got) != "--host [user@]host, or MINIMAIL_HOST=[user@]host in "+want {
			t.Errorf("%s (%v): %v, hint %q", file, err, got, fail.HintOf(got))
		}
		s.Host = "far"
		if err := s.NeedHost(); err != nil {
			t.Errorf("with a host: %v", err)
		}
	}
}
