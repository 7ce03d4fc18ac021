package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"minimail/forward"
	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// testWords are the program's.
var testWords = []Word{{Name: "start"}, {Name: "stop"}, {Name: "restart"}, {Name: "status"}, {Name: "check"}, {Name: "settings"}}

// settingsFor is what the program makes of a command line.
func settingsFor(t *testing.T, args ...string) (Settings, error) {
	t.Helper()
	before := os.Environ()
	s, err := Parse(args, testWords)
	if !slices.Equal(before, os.Environ()) {
		t.Error("the environment is changed")
	}
	return s, err
}

func settingsOf(t *testing.T, args ...string) Settings {
	t.Helper()
	s, err := settingsFor(t, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return s
}

func TestTheDefaults(t *testing.T) {
	s := settingsOf(t, "--settings", os.DevNull, "--host", "far", "-p", "/p", "-l", "/l")
	want := Settings{
		Word: "start", call: s.call, Host: "far", SSH: "ssh",
		Forwards: []forward.Spec{{Binds: forward.Loopback, Port: 25, Near: "1025", Far: "localhost:25", SMTP: true}},
		Idle:     10 * time.Second, Jitter: 25 * time.Second, Wait: 25 * time.Second, Drain: 10 * time.Second,
		MaxClients: 256,
		PidFile:    "/p", LogFile: "/l", PidFileNamed: true, OnTerminal: s.OnTerminal,
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
		get                       func(Settings) any
	}{
		{"--host", "MINIMAIL_HOST", "o", "e", "f", "o", "e", "f", "", func(s Settings) any { return s.Host }},
		{"--forward", "MINIMAIL_FORWARD", "1:4001:a:1", "2:4001:a:1", "3:4001:a:1 4:4002:a:1", 1, 2, 3, 25, func(s Settings) any { return s.Forwards[0].Port }},
		{"--protocol", "MINIMAIL_PROTOCOL", "tcp", "smtp", "tcp", false, true, false, true, func(s Settings) any { return s.Forwards[0].SMTP }},
		{"--ssh", "MINIMAIL_SSH", "o", "e", "f", "o", "e", "f", "ssh", func(s Settings) any { return s.SSH }},
		{"--ssh-config", "MINIMAIL_SSH_CONFIG", "/o", "/e", "/f", "/o", "/e", "/f", "", func(s Settings) any { return s.SSHConfig }},
		{"--ssh-option", "MINIMAIL_SSH_OPTION", "O=o", "E=e", "F=f", "O=o", "E=e", "F=f", "", func(s Settings) any { return strings.Join(s.SSHOptions, "") }},
		{"--idle", "MINIMAIL_IDLE", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 10 * time.Second, func(s Settings) any { return s.Idle }},
		{"--jitter", "MINIMAIL_JITTER", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 25 * time.Second, func(s Settings) any { return s.Jitter }},
		{"--wait", "MINIMAIL_WAIT", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 25 * time.Second, func(s Settings) any { return s.Wait }},
		{"--drain", "MINIMAIL_DRAIN", "1", "2", "3", time.Second, 2 * time.Second, 3 * time.Second, 10 * time.Second, func(s Settings) any { return s.Drain }},
		{"--max-clients", "MINIMAIL_MAX_CLIENTS", "1", "2", "3", 1, 2, 3, 256, func(s Settings) any { return s.MaxClients }},
		{"--user", "MINIMAIL_USER", "o", "e", "f", "o", "e", "f", "", func(s Settings) any { return s.User }},
		{"-u", "SUDO_USER", "o", "e", "f", "o", "e", "f", "", func(s Settings) any { return s.User }},
		{"-p", "MINIMAIL_PID_FILE", "/o", "/e", "/f", "/o", "/e", "/f", nil, func(s Settings) any { return s.PidFile }},
		{"--log-file", "MINIMAIL_LOG_FILE", "/o", "/e", "/f", "/o", "/e", "/f", nil, func(s Settings) any { return s.LogFile }},
		{"--log-format", "MINIMAIL_LOG_FORMAT", "text", "json", "text", false, true, false, false, func(s Settings) any { return s.LogJSON }},
		{"--verbose", "MINIMAIL_VERBOSE", "", "false", "true", true, false, true, false, func(s Settings) any { return s.Verbose }},
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
					if c.env != "SUDO_USER" || places&1 == 0 { // see TestTheFilesUserBeatsSudos
						want = c.env1
					}
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
	if got := settingsOf(t, "status", "--settings", file).User; got != "own" {
		t.Errorf("user %q", got)
	}
}

func TestATimeWithoutAUnitIsSeconds(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0": 0, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond,
		"1.5s": 1500 * time.Millisecond, " 5 ": 5 * time.Second, "8760h": 8760 * time.Hour, "007": 7 * time.Second,
	} {
		if got := settingsOf(t, "--settings", os.DevNull, "--host", "far", "--idle", v).Idle; got != want {
			t.Errorf("%q is %s, want %s", v, got, want)
		}
	}
}

func TestASettingIsOneSSHOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	for v, want := range map[string]string{
		"Port=22":                        "",
		"ProxyCommand=ssh -W %h:%p jump": "",
		"ProxyCommand=ssh -W %h:%p -o Port=2222 jump": "",
		"ProxyCommand=env A=1 B=2 nc %h %p":           "",
		"SetEnv=A=1 B=2":                              "",
		"SendEnv=LANG LC_*":                           "",
		"Port=22 User=me":                             "one KEYWORD=VALUE",
		"ProxyCommand=nc -X 5 %h %p Port=2222":        "one KEYWORD=VALUE",
		"Port=22  User=me":                            "one KEYWORD=VALUE",
		"Port":                                        "KEYWORD=VALUE",
	} {
		testbed.Write(t, file, "MINIMAIL_SSH_OPTION='"+v+"'\n")
		for place, args := range map[string][]string{"option": {"--settings", os.DevNull, "--ssh-option", v}, "file": {"--settings", file}} {
			want := want
			if place == "option" && strings.HasPrefix(want, "one") {
				want = "" // each is one, whatever is in it
			}
			s, err := settingsFor(t, append(args, "--host", "far")...)
			switch {
			case want == "" && (err != nil || !slices.Equal(s.SSHOptions, []string{v})):
				t.Errorf("%s: %q is %q (%v)", place, v, s.SSHOptions, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s: %q: %v, want %s", place, v, err, want)
			}
		}
	}
	testbed.Write(t, file, "MINIMAIL_SSH_OPTION=Port=22\n# and\nMINIMAIL_SSH_OPTION=User=me\n")
	if got := settingsOf(t, "--settings", file, "--host", "far").SSHOptions; !slices.Equal(got, []string{"Port=22", "User=me"}) {
		t.Errorf("two lines are %q", got)
	}
}

// TestAPathInTheFileIsWhole: who reads the file may be anywhere, and anybody.
func TestAPathInTheFileIsWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	for _, name := range []string{"MINIMAIL_PID_FILE", "MINIMAIL_LOG_FILE", "MINIMAIL_SSH_CONFIG", "MINIMAIL_SSH"} {
		for _, v := range []string{"~/x.log", "./x", "../x", "a/b", "~me/x"} {
			testbed.Write(t, file, "\n"+name+"="+v+"\n")
			_, err := settingsFor(t, "--settings", file, "--host", "far")
			if err == nil || !strings.Contains(err.Error(), name+" in "+file+", line 2") {
				t.Errorf("%s=%s: %v", name, v, err)
			}
		}
	}
}

func TestTheFilesUserBeatsSudos(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "SUDO_USER=me\n")
	t.Setenv("SUDO_USER", "colleague")
	if got := settingsOf(t, "--settings", file, "--host", "far").User; got != "me" {
		t.Errorf("user %q", got)
	}
	if got := settingsOf(t, "--settings", os.DevNull, "--host", "far").User; got != "colleague" {
		t.Errorf("without a file it is %q", got)
	}
	t.Setenv("MINIMAIL_USER", "other")
	if got := settingsOf(t, "--settings", file, "--host", "far").User; got != "other" {
		t.Errorf("with one of minimail's own it is %q", got)
	}
}

// TestStopAndStatusDoNotMindAFileThatIsWrong: but they take the pid file from it.
func TestStopAndStatusDoNotMindAFileThatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "MINIMAIL_HOTS=far\nMINIMAIL_PID_FILE=/x/pid\nMINIMAIL_VERBOSE=perhaps\nMINIMAIL_IDLE=never\n")
	for _, word := range []string{"stop", "status"} {
		s := settingsOf(t, word, "--settings", file)
		if s.PidFile != "/x/pid" || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], file+", line 1") {
			t.Errorf("%s: pid file %s, warnings %q", word, s.PidFile, s.Warnings)
		}
	}
	for _, word := range []string{"start", "restart", "check", "settings"} {
		if _, err := settingsFor(t, word, "--settings", file); err == nil || !strings.Contains(err.Error(), file+", line 1") {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestScriptsCanAskForSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "SUDO_USER=john@corp\nMINIMAIL_SSH_OPTION=Port=1\nMINIMAIL_SSH_OPTION='User=a b'\n")
	print := func(args ...string) string {
		var out strings.Builder
		s := settingsOf(t, append([]string{"--settings", file, "settings"}, args...)...)
		if err := s.Print(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := print("SUDO_USER"); got != "john@corp\n" {
		t.Errorf("the user is %q", got)
	}
	if got := print("MINIMAIL_HOST"); got != "\n" {
		t.Errorf("the host is %q", got)
	}
	all := print()
	for _, want := range []string{"MINIMAIL_HOST=\n", "MINIMAIL_USER=john@corp\n", "MINIMAIL_SSH_OPTION=Port=1\nMINIMAIL_SSH_OPTION=User=a b\n", "MINIMAIL_IDLE=10s\n", "MINIMAIL_FORWARD=25:1025:localhost:25\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	if _, err := settingsFor(t, "settings", "MINIMAIL_HOTS"); fail.HintOf(err) != `did you mean "MINIMAIL_HOST"?` {
		t.Errorf("a name that is none: %v", err)
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
		s.PidFile: filepath.Join(dir, "p"), s.LogFile: filepath.Join(dir, "l"),
		s.SSHConfig: filepath.Join(filepath.Dir(dir), "c"), s.SSH: filepath.Join(dir, "bin", "ssh"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := settingsOf(t, "--settings", os.DevNull, "--host", "far", "--ssh", "myssh").SSH; got != "myssh" {
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
	}
	if _, err := settingsFor(t, "start", "--settings", os.DevNull); err == nil {
		t.Error("start needs no host")
	}
	if s := settingsOf(t, "restart", "--settings", os.DevNull); s.NeedHost() == nil {
		t.Error("restart may know it from the one that runs, but needs it then")
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
			t.Errorf("%s takes %s", word, s.PidFile)
		}
	}
}

func TestAHostIsOnlyADestination(t *testing.T) {
	for _, host := range []string{"far", "me@far.example.com", "me@[::1]", "ssh://me@far:2222", "a-b", "a!b"} {
		if got := settingsOf(t, "--settings", os.DevNull, "--host", host).Host; got != host {
			t.Errorf("%q is taken for %q", host, got)
		}
	}
	for _, host := range []string{"", "-", "-oProxyCommand=x", "@", "@far", "me@", "--", "a b", "a\nb", "a\x00b", " far", "far\x7f"} {
		if _, err := settingsFor(t, "--settings", os.DevNull, "--host", host); err == nil {
			t.Errorf("%q is a host", host)
		}
	}
}

// TestASettingIsToldWithItsValueAndWhereItComesFrom: aliases and lists are
// where that can go wrong.
func TestASettingIsToldWithItsValueAndWhereItComesFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "\nMINIMAIL_FORWARD='[::1]:25:1025:[::1]:25 26:1026:b:25'\nMINIMAIL_VERBOSE=true\n")
	t.Setenv("MINIMAIL_HOST", "far")
	s := settingsOf(t, "check", "--settings", file, "-u", "me", "--idle=5", "-X", "--json")
	want := []string{
		"--host far (MINIMAIL_HOST)",
		"--forward [::1]:25:1025:[::1]:25 26:1026:b:25 (MINIMAIL_FORWARD in " + file + ", line 2)",
		"--idle 5", "--user me", "--foreground",
		"--verbose true (MINIMAIL_VERBOSE in " + file + ", line 3)",
	}
	if s.File() != file || !slices.Equal(s.Changed(), want) {
		t.Errorf("%s: got\n%q, want\n%q", s.File(), s.Changed(), want)
	}
}

func TestTheTunnelsPortIsOneThatSSHMayListenOn(t *testing.T) {
	first := firstPort()
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil && fmt.Sprintln(first) != string(b) {
		t.Errorf("%d, but the kernel says %s", first, b)
	}
	if first < 2 {
		t.Skip("here anybody may listen on any port (ip_unprivileged_port_start)")
	}
	for port, ok := range map[int]bool{first: true, first - 1: false, 1: false} {
		_, err := settingsFor(t, "--settings", os.DevNull, "--host", "far", "--forward", fmt.Sprintf("2525:%d:localhost:25", port))
		if ok != (err == nil) {
			t.Errorf("%d: %v", port, err)
		}
	}
}
