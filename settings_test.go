package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"minimail/forward"
	"minimail/internal/testbed"
)

// settingsFor is what the program makes of a command line. It may change the
// environment; the test's end brings it back.
func settingsFor(t *testing.T, args ...string) (settings, error) {
	t.Helper()
	for _, name := range settingNames() {
		if v, ok := os.LookupEnv(name); ok {
			t.Setenv(name, v) // remembers it
		} else {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	inv, err := parse(args)
	if err != nil {
		return settings{}, err
	}
	app := newApp(inv)
	var s settings
	for _, c := range app.Commands {
		c.Action = func(ctx *cli.Context) error {
			s, err = inv.settings(ctx)
			return err
		}
	}
	err = app.Run(append([]string{"minimail"}, inv.normalised()...))
	return s, err
}

func settingsOf(t *testing.T, args ...string) settings {
	t.Helper()
	s, err := settingsFor(t, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return s
}

func TestTheDefaults(t *testing.T) {
	s := settingsOf(t, "--settings", os.DevNull, "--host", "far", "-p", "/p", "-l", "/l")
	want := settings{
		inv: s.inv, host: "far", ssh: "ssh",
		forwards: []forward.Spec{{Binds: forward.Loopback, Port: 25, Near: "1025", Far: "localhost:25", SMTP: true}},
		idle:     10 * time.Second, jitter: 25 * time.Second, wait: 25 * time.Second, drain: 10 * time.Second,
		maxClients: 256,
		pidFile:    "/p", logFile: "/l", pidFileNamed: true, onTerminal: s.onTerminal,
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got\n%+v, want\n%+v", s, want)
	}
}

// TestAnOptionBeatsTheEnvironmentBeatsTheFileBeatsTheDefault tries each option
// that has a setting, with all combinations of places to set it.
func TestAnOptionBeatsTheEnvironmentBeatsTheFileBeatsTheDefault(t *testing.T) {
	for _, c := range []struct {
		option, env               string
		byOption, byEnv, byFile   string
		option1, env1, file1, def any
		get                       func(settings) any
	}{
		{"--host", "MINIMAIL_HOST", "o", "e", "f", "o", "e", "f", "", func(s settings) any { return s.host }},
		{"--forward", "MINIMAIL_FORWARD", "1:4001:a:1", "2:4001:a:1", "3:4001:a:1 4:4002:a:1", 1, 2, 3, 25, func(s settings) any { return s.forwards[0].Port }},
		{"--protocol", "MINIMAIL_PROTOCOL", "tcp", "smtp", "tcp", false, true, false, true, func(s settings) any { return s.forwards[0].SMTP }},
		{"--ssh", "MINIMAIL_SSH", "o", "e", "f", "o", "e", "f", "ssh", func(s settings) any { return s.ssh }},
		{"--ssh-config", "MINIMAIL_SSH_CONFIG", "/o", "/e", "/f", "/o", "/e", "/f", "", func(s settings) any { return s.sshConfig }},
		{"--ssh-option", "MINIMAIL_SSH_OPTION", "O=o", "E=e", "F=f", "O=o", "E=e", "F=f", "", func(s settings) any { return strings.Join(s.sshOptions, "") }},
		{"--idle", "MINIMAIL_IDLE", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 10 * time.Second, func(s settings) any { return s.idle }},
		{"--jitter", "MINIMAIL_JITTER", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 25 * time.Second, func(s settings) any { return s.jitter }},
		{"--wait", "MINIMAIL_WAIT", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 25 * time.Second, func(s settings) any { return s.wait }},
		{"--drain", "MINIMAIL_DRAIN", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 10 * time.Second, func(s settings) any { return s.drain }},
		{"--max-clients", "MINIMAIL_MAX_CLIENTS", "1", "2", "3", 1, 2, 3, 256, func(s settings) any { return s.maxClients }},
		{"--user", "MINIMAIL_USER", "o", "e", "f", "o", "e", "f", "", func(s settings) any { return s.user }},
		{"-u", "SUDO_USER", "o", "e", "f", "o", "e", "f", "", func(s settings) any { return s.user }},
		{"-p", "MINIMAIL_PID_FILE", "/o", "/e", "/f", "/o", "/e", "/f", nil, func(s settings) any { return s.pidFile }},
		{"--log-file", "MINIMAIL_LOG_FILE", "/o", "/e", "/f", "/o", "/e", "/f", nil, func(s settings) any { return s.logFile }},
		{"--log-format", "MINIMAIL_LOG_FORMAT", "text", "json", "text", false, true, false, false, func(s settings) any { return s.json }},
		{"--verbose", "MINIMAIL_VERBOSE", "", "false", "true", true, false, true, false, func(s settings) any { return s.verbose }},
	} {
		t.Run(c.env, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			file := filepath.Join(t.TempDir(), "settings")
			option := []string{c.option}
			if c.byOption != "" {
				option = append(option, c.byOption)
			}
			for places := range 8 {
				testbed.Write(t, file, "")
				want := c.def
				t.Setenv(c.env, "")
				args := []string{"status", "--settings", file}
				if places&1 != 0 {
					testbed.Write(t, file, c.env+`="`+c.byFile+"\"\n")
					want = c.file1
				}
				if places&2 != 0 {
					t.Setenv(c.env, c.byEnv)
					want = c.env1
				}
				if places&4 != 0 {
					args = append(args, option...)
					want = c.option1
				}
				if got := c.get(settingsOf(t, args...)); want != nil && got != want {
					t.Errorf("option %v, environment %v, file %v: %v, want %v", places&4 != 0, places&2 != 0, places&1 != 0, got, want)
				}
				os.Unsetenv(c.env)
			}
		})
	}
}

func TestMinimailsUserBeatsSudosInTheSamePlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "SUDO_USER=sudo\nMINIMAIL_USER=own\n")
	if got := settingsOf(t, "status", "--settings", file).user; got != "own" {
		t.Errorf("user %q", got)
	}
}

func TestATimeWithoutAUnitIsSeconds(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0": 0, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond,
		"1.5s": 1500 * time.Millisecond, " 5 ": 5 * time.Second, "8760h": 8760 * time.Hour, "007": 7 * time.Second,
	} {
		if got := settingsOf(t, "--settings", os.DevNull, "--host", "far", "--idle", v).idle; got != want {
			t.Errorf("%q is %s, want %s", v, got, want)
		}
	}
}

func TestSSHOptionsInOneSettingAreToldApart(t *testing.T) {
	for v, want := range map[string][]string{
		"Port=22":                             {"Port=22"},
		"Port=22 User=me":                     {"Port=22", "User=me"},
		"ProxyCommand=ssh -W %h:%p jump":      {"ProxyCommand=ssh -W %h:%p jump"},
		"ProxyCommand=nc -X 5 %h %p  Port=22": {"ProxyCommand=nc -X 5 %h %p", "Port=22"},
		"\tPort=22\t User=me ":                {"Port=22", "User=me"},
		"SetEnv=A=1 B":                        {"SetEnv=A=1 B"},
	} {
		t.Setenv("MINIMAIL_SSH_OPTION", v)
		if got := settingsOf(t, "--settings", os.DevNull, "--host", "far").sshOptions; !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", v, got, want)
		}
	}
	// On the command line each is one, whatever is in it.
	os.Unsetenv("MINIMAIL_SSH_OPTION")
	want := []string{"ProxyCommand=env A=1 B=2 nc %h %p", "User=a,b"}
	got := settingsOf(t, "--settings", os.DevNull, "--host", "far", "--ssh-option", want[0], "--ssh-option", want[1]).sshOptions
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFileNamesAreMadeAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := settingsOf(t, "--settings", os.DevNull, "--host", "far", "-p", "p", "-l", "./l", "--ssh-config", "../c", "--ssh", "bin/ssh")
	for got, want := range map[string]string{
		s.pidFile: filepath.Join(dir, "p"), s.logFile: filepath.Join(dir, "l"),
		s.sshConfig: filepath.Join(filepath.Dir(dir), "c"), s.ssh: filepath.Join(dir, "bin", "ssh"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := settingsOf(t, "--settings", os.DevNull, "--host", "far", "--ssh", "myssh").ssh; got != "myssh" {
		t.Errorf("a name without a slash is for PATH, not %q", got)
	}
}

func TestStopAndStatusDoNotMindOtherWordsOptions(t *testing.T) {
	for _, word := range []string{"stop", "status"} {
		settingsOf(t, word, "--settings", os.DevNull, "--idle", "never", "--forward", "x", "--ssh-option", "y", "--max-clients", "0")
	}
	for _, word := range []string{"start", "restart"} {
		if _, err := settingsFor(t, word, "--settings", os.DevNull, "--host", "far", "--idle", "never"); err == nil {
			t.Errorf("%s takes any time", word)
		}
		if _, err := settingsFor(t, word, "--settings", os.DevNull); err == nil {
			t.Errorf("%s needs no host", word)
		}
	}
}

// TestADirectoryThatIsGoneIsNoPlaceForAPidFile: stop would stop another one.
func TestADirectoryThatIsGoneIsNoPlaceForAPidFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PWD", "")
	for _, word := range []string{"stop", "status", "start"} {
		if s, err := settingsFor(t, word, "--settings", os.DevNull, "--host", "far", "-p", "pid"); err == nil {
			t.Errorf("%s takes %s", word, s.pidFile)
		}
	}
}

func TestAHostIsOnlyADestination(t *testing.T) {
	for _, host := range []string{"far", "me@far.example.com", "me@[::1]", "ssh://me@far:2222", "a-b"} {
		if got := settingsOf(t, "--settings", os.DevNull, "--host", host).host; got != host {
			t.Errorf("%q is taken for %q", host, got)
		}
	}
	for _, host := range []string{"", "-", "-oProxyCommand=x", "@", "@far", "me@", "--", "a b", "a\nb", "a\x00b", " far", "far\x7f"} {
		if _, err := settingsFor(t, "--settings", os.DevNull, "--host", host); err == nil {
			t.Errorf("%q is a host", host)
		}
	}
}
