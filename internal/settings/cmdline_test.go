package settings

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

// TestABadValueIsOneLineThatNamesItAndWhatIsExpected runs the program: nothing
// but a hint may follow, and nothing may have been started.
func TestABadValueIsOneLineThatNamesItAndWhatIsExpected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pid, log := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	for _, c := range []struct {
		args string // words at spaces
		want string // a regexp
	}{
		{"--idle -1", `--idle "-1": expected a time that is not negative`},
		{"--idle -1ns", `--idle "-1ns": expected a time that is not negative`},
		{"--idle soon", `--idle "soon": expected a time such as 30, 90s or 1m30s`},
		{"--idle 10.5", `--idle "10.5": expected a time such as`},
		{"--idle 400d", `--idle "400d": expected a time such as`},
		{"--idle 9000h", `--idle "9000h": expected a time of a year at most`},
		{"--wait 99999999h", `--wait "99999999h": expected a time of a year at most`},
		{"--idle 99999999999999999999", `--idle "99999999999999999999": expected a time of a year at most`},
		{"--idle=", `--idle "": expected a time such as`},
		{"--jitter -5s", `--jitter "-5s": expected a time that is not negative`},
		{"--drain -5s", `--drain "-5s": expected a time that is not negative`},
		{"--wait 0", `--wait "0": expected a time above zero`},
		{"--wait -3", `--wait "-3": expected a time that is not negative`},
		{"--wait 1us", `--wait "1us": expected a time above zero`},
		{"--max-clients 0", `--max-clients "0": expected a number above zero`},
		{"--max-clients -1", `--max-clients "-1": expected a number above zero`},
		{"--max-clients many", `--max-clients "many": expected a number above zero`},
		{"--max-clients 1.5", `--max-clients "1.5": expected a number above zero`},
		{"--log-format xml", `--log-format "xml": expected text or json`},
		{"--protocol imap", `--protocol "imap": expected auto or smtp or tcp`},
		{"--ssh-option Port", `--ssh-option "Port": expected KEYWORD=VALUE`},
		{"--ssh-option =22", `--ssh-option "=22": expected KEYWORD=VALUE`},
		{"--ssh-option=", `--ssh-option "": expected KEYWORD=VALUE`},
		{"--host=", `no host to log in to\nhint: --host .*, or MINIMAIL_HOST=`},
		{"--host -oProxyCommand=x", `--host "-oProxyCommand=x": expected .*cannot begin with "-"`},
		{"--host a\tb", `--host "a\\tb": expected \[user@\]host without spaces`},
		{"--host @far", `--host "@far": expected \[user@\]host: something is missing beside the "@"`},
		{"--host me@", `--host "me@": expected \[user@\]host: something is missing beside the "@"`},
		{"--host --", `--host "--": expected .*cannot begin with "-"`},
		{"-l -", `--log-file "-": expected a file, as \./-: minimail -X logs to stderr`},
		{"--settings=", `--settings "": expected a file name: it is empty`},
		{"--settings=/dev/null --host=", `no host to log in to\nhint: --host .* in /etc/default/minimail`},
		{"--forward 2525", `--forward "2525": expected \[BIND:\]PORT:TUNNEL:FARHOST:FARPORT`},
		{"--forward=", `--forward "": expected \[BIND:\]PORT:TUNNEL:FARHOST:FARPORT`},
		{"--forward 65536:1025:localhost:25", `--forward "65536:.*": expected PORT to be a port from 1 to 65535`},
		{"--forward 0:1025:localhost:25", `--forward "0:.*": expected PORT to be a port from 1 to 65535`},
		{"--forward -1:1025:localhost:25", `--forward "-1:.*": expected PORT to be a port from 1 to 65535`},
		{"--forward smtp:1025:localhost:25", `--forward "smtp:.*": expected PORT to be a port from 1 to 65535`},
		{"--forward 2525:0:localhost:25", `--forward "2525:0:.*": expected TUNNEL to be a port, or a path that begins with /`},
		{"--forward 2525:tunnel.sock:localhost:25", `expected TUNNEL to be a port, or a path that begins with /`},
		{"--forward 2525:/run/%h.sock:localhost:25", "expected a socket's path without %, \\$ and"},
		{"--forward 2525:/run/${USER}:localhost:25", "expected a socket's path without %, \\$ and"},
		{"--forward 2525:1025:/run/%u", "expected a socket's path without %, \\$ and"},
		{"--forward 2525:/" + strings.Repeat("x", 107) + ":localhost:25", "expected a socket's path of at most 107 bytes"},
		{"--forward 2525:1025:localhost:70000", `expected FARPORT to be a port from 1 to 65535`},
		{"--forward 2525:1025::25", `expected a FARHOST`},
		{"--forward ::1:2525:1025:localhost:25", `--forward "::1:2525:.*": expected \[BIND:\]PORT:TUNNEL:FARHOST:FARPORT`},
		{"--forward example.com:2525:1025:localhost:25", `expected BIND to be an address \(IPv6 in brackets\), localhost or \*`},
		{"--forward 2525:1025:localhost:25 --forward 2525:1026:localhost:25",
			`--forward "2525:1026:localhost:25": expected a port of its own, but port 2525 is taken by "2525:1025:localhost:25"`},
		{"--forward 2525:1025:localhost:25 --forward 2526:1025:localhost:25", `a port of its own, but port 1025 is taken`},
		{"--forward 2525:1025:localhost:25 --forward 1025:1026:localhost:25", `a port of its own, but port 1025 is taken`},
		{"--forward 2525:2525:localhost:25", `a port of its own, but port 2525 is taken`},
		{"--foreground=perhaps", `--foreground "perhaps": expected true or false`},
		{"-X=perhaps", `-X "perhaps": expected true or false`},
	} {
		args := []string{"start", "--settings", os.DevNull, "-p", pid, "-l", log, "--host", "far", "--user", testbed.RunAs}
		cmd := exec.Command(testbed.Program, append(args, strings.Split(c.args, " ")...)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		if !regexp.MustCompile(`\Aminimail: .*` + c.want + `.*\n(hint: .*\n)?\z`).MatchString(stderr.String()) {
			t.Errorf("%s: stderr is %q, want a line with %s", c.args, stderr.String(), c.want)
		}
		if stdout.String() != "" {
			t.Errorf("%s: stdout is %q", c.args, stdout.String())
		}
		if code := cmd.ProcessState.ExitCode(); code != fail.Usage {
			t.Errorf("%s: exit status %d, want %d", c.args, code, fail.Usage)
		}
	}
	for _, f := range []string{pid, log} {
		if _, err := os.Stat(f); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", f, err)
		}
	}
}

func TestASwitchThatIsOffIsOff(t *testing.T) {
	off, err := Parse([]string{"--settings", os.DevNull, "--host", "far", "--help=false", "--version=false", "--json=0", "--nagios=f", "check"}, testWords)
	if err != nil || off.Help || off.Version || off.JSON || off.Nagios {
		t.Errorf("%+v, %v", off, err)
	}
	on, err := Parse([]string{"--settings", os.DevNull, "--host", "far", "--json=1", "--nagios", "check"}, testWords)
	if err != nil || !on.JSON || !on.Nagios {
		t.Errorf("%+v, %v", on, err)
	}
}

func TestTheWordMayStandAnywhereAmongTheOptions(t *testing.T) {
	for _, c := range []struct {
		args, want []string
		word       string
	}{
		{nil, []string{"start"}, "start"},
		{[]string{"stop"}, []string{"stop"}, "stop"},
		{[]string{"-v", "status"}, []string{"-v", "status"}, "status"},
		{[]string{"status", "-v"}, []string{"-v", "status"}, "status"},
		{[]string{"--idle", "5", "restart", "--wait=3", "-X"}, []string{"--idle", "5", "--wait=3", "-X", "restart"}, "restart"},
		{[]string{"-p", "stop", "start"}, []string{"-p", "stop", "start"}, "start"}, // a file called stop
		{[]string{"-X", "-p", "stop"}, []string{"-X", "-p", "stop", "start"}, "start"},
		{[]string{"--", "stop"}, []string{"stop"}, "stop"},
		{[]string{"-v", "--", "stop"}, []string{"-v", "stop"}, "stop"},
		{[]string{"-u", "--", "stop"}, []string{"-u", "--", "stop"}, "stop"}, // a user called --
		{[]string{"stop", "-v", "-u", "--"}, []string{"-v", "-u", "--", "stop"}, "stop"},
		{[]string{"-u", "--", "--", "stop"}, []string{"-u", "--", "stop"}, "stop"},
		{[]string{"-u", "-u", "--", "stop"}, []string{"-u", "-u", "stop"}, "stop"},
		{[]string{"stop", "--", "-v"}, nil, ""},
		{[]string{"stop", "stop"}, nil, ""},
		{[]string{"strat"}, nil, ""},
		{[]string{"-"}, nil, ""},
	} {
		s, err := Parse(append([]string{"--settings", os.DevNull, "--host", "far"}, c.args...), testWords)
		if c.want == nil {
			if err == nil {
				t.Errorf("%q is taken for %q", c.args, s.Argv())
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if got := s.Argv()[4:]; s.Word != c.word || !slices.Equal(got, c.want) {
			t.Errorf("%q is word %q of %q, want %q of %q", c.args, s.Word, got, c.word, c.want)
		}
	}
}

func TestSettingsOfTheEnvironmentGoToSudoAsOptions(t *testing.T) {
	t.Setenv("MINIMAIL_HOST", "far.example")
	t.Setenv("MINIMAIL_IDLE", "") // is not set
	t.Setenv("MINIMAIL_JITTER", "7")
	t.Setenv("MINIMAIL_WAIT", "8")
	t.Setenv("MINIMAIL_SSH_OPTION", "ProxyCommand=ssh -W %h:%p jump\nUser=me")
	t.Setenv("MINIMAIL_FORWARD", "25:1025:a:25 26:1026:b:25")
	t.Setenv("MINIMAIL_VERBOSE", "true")
	t.Setenv("SUDO_USER", "somebody") // sudo sets it itself
	before := settingsOf(t, "--settings", os.DevNull, "--wait", "9")
	want := []string{
		"--settings", os.DevNull, "--wait", "9",
		"--host=far.example", "--forward=25:1025:a:25 26:1026:b:25",
		"--ssh-option=ProxyCommand=ssh -W %h:%p jump", "--ssh-option=User=me",
		"--jitter=7", "--verbose=true", "start",
	}
	if got := before.Argv(); !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	// They mean the same there.
	for _, name := range names() {
		os.Unsetenv(name)
	}
	after := settingsOf(t, want...)
	if !slices.Equal(before.SSHOptions, after.SSHOptions) || len(after.Forwards) != 2 || before.Jitter != after.Jitter || !after.Verbose {
		t.Errorf("before sudo %+v, after it %+v", before, after)
	}
}

// TestOnlyWhatIsNearIsSuggested: a far-fetched word helps nobody.
func TestOnlyWhatIsNearIsSuggested(t *testing.T) {
	for arg, want := range map[string]string{
		"strat": `did you mean "start"?`, "statsu": `did you mean "status"?`, "stpo": `did you mean "stop"?`,
		"help": `did you mean "--help"?`, "version": `did you mean "--version"?`,
		"host": `did you mean "--host"?`, "STATUS": `did you mean "status"?`, "--HOST": `did you mean "--host"?`,
		"MINIMAIL_HOST=me@x": `did you mean "MINIMAIL_HOST=me@x minimail"?`, "HOST=me@x": "minimail --help lists the commands",
		"--ssh-opt": `did you mean "--ssh-option"?`, "--log-": "minimail --help lists the options", "--port": `did you mean "--forward"?`,
		"h": "minimail --help lists the commands", "rabbit": "minimail --help lists the commands",
		"me@host": "minimail --host me@host # if that is the host to log in to",
		"--hots":  `did you mean "--host"?`, "--config": `did you mean "--settings"?`,
		"--vorbase": `did you mean "--verbose"?`, "--verbbosse": `did you mean "--verbose"?`, "--vebse": `did you mean "--verbose"?`,
		"--quiet": "minimail --help lists the options", "--bogus": "minimail --help lists the options", "-q": "minimail --help lists the options",
		"-p2222": "--ssh-option Port=2222 # or Port in ~/.ssh/config", "-o": `did you mean "--ssh-option"?`, "-F": `did you mean "--ssh-config"?`,
		"-px": "minimail --help lists the options", "restxyz": "minimail --help lists the commands", "ch": "minimail --help lists the commands", "che": `did you mean "check"?`,
		"--mx-clints": `did you mean "--max-clients"?`, "--max-cliieents": `did you mean "--max-clients"?`, "--mux-cliants": `did you mean "--max-clients"?`,
		"--hat": "minimail --help lists the options", "rstrt": `did you mean "start"?`, // both are two letters away
		"-Xv": "-X -v # each on its own", "-Xq": "minimail --help lists the options", "--Xv": "minimail --help lists the options",
	} {
		_, err := Parse([]string{arg}, testWords)
		if got := fail.HintOf(err); got != want || fail.Status(err) != fail.Usage {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
}

func TestCheckWarnsOfAnOpenRelayAsStartDoes(t *testing.T) {
	for line, want := range map[string]int{"start": 1, "check": 1, "check --json": 1, "check --nagios": 0, "start -X": 0, "status": 0} {
		s, err := Parse(strings.Fields("--settings /dev/null --host far --forward *:2525:1025:localhost:25 "+line), testWords)
		relay := slices.DeleteFunc(s.Warnings, func(w string) bool { return !strings.Contains(w, "an open relay") })
		if err != nil || len(relay) != want {
			t.Errorf("%s: %q, %v; want %d", line, s.Warnings, err, want)
		}
	}
}

func TestAnOptionWithoutEffectIsSaidOrRefused(t *testing.T) {
	for _, args := range [][]string{{"start", "--json"}, {"status", "--nagios"}, {"restart", "--nagios"}, {"stop", "--json"}} {
		if _, err := settingsFor(t, append(args, "--settings", os.DevNull, "--host", "far")...); err == nil || !strings.Contains(err.Error(), args[1]+" means nothing to "+args[0]) {
			t.Errorf("%q: %v", args, err)
		}
	}
	s := settingsOf(t, "stop", "--settings", os.DevNull, "--host", "far", "-p", "/p")
	if want := []string{"--host means nothing to stop"}; !slices.Equal(s.Warnings, want) {
		t.Errorf("warnings %q, want %q", s.Warnings, want)
	}
}

func TestAValueIsBlamedOnWhereItComesFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, "# two lines\nMINIMAIL_WAIT=0\n")
	t.Setenv("MINIMAIL_IDLE", "-1")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--settings", os.DevNull}, `--idle (MINIMAIL_IDLE) "-1": expected a time that is not negative`},
		{[]string{"--settings", os.DevNull, "--idle=-2"}, `--idle "-2": expected a time that is not negative`},
		{[]string{"--settings", file, "--idle", "1"}, `--wait (MINIMAIL_WAIT in ` + file + `, line 2) "0": expected a time above zero`},
	} {
		_, err := settingsFor(t, append(c.args, "--host", "far")...)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.args, err, c.want)
		}
	}
}

func TestASettingOnOrOffMustBeOneOrTheOther(t *testing.T) {
	t.Setenv("MINIMAIL_VERBOSE", "perhaps")
	_, err := settingsFor(t, "--settings", os.DevNull, "--host", "far")
	if err == nil || err.Error() != `--verbose (MINIMAIL_VERBOSE) "perhaps": expected true or false` || fail.Status(err) != fail.Usage {
		t.Errorf("got %v", err)
	}
	for v, want := range map[string]bool{"true": true, "1": true, "false": false, "0": false, "": false} {
		t.Setenv("MINIMAIL_VERBOSE", v)
		if got := settingsOf(t, "--settings", os.DevNull, "--host", "far").Verbose; got != want {
			t.Errorf("MINIMAIL_VERBOSE=%s is %v, want %v", v, got, want)
		}
	}
}

// TestHelpFitsATerminal: 80 columns, 40 lines, and every option is in it, and
// examples that the program understands.
func TestHelpFitsATerminal(t *testing.T) {
	cmd := exec.Command(testbed.Program, "-h")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) > 40 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if len([]rune(l)) > 80 {
			t.Errorf("%d columns: %s", len(l), l)
		}
	}
	for _, f := range allOptions() {
		for _, name := range f.Names() {
			if !regexp.MustCompile(`(?m)^ .*` + regexp.QuoteMeta(dashed(name)) + `\b`).Match(out) {
				t.Errorf("not in the help: %s", dashed(name))
			}
		}
	}
	examples := regexp.MustCompile(`(?m)^  (?:sudo )?minimail ([^#\n]*)`).FindAllStringSubmatch(string(out), -1)
	if len(examples) < 2 {
		t.Errorf("%d examples", len(examples))
	}
	for _, e := range examples {
		if _, err := settingsFor(t, append(strings.Fields(e[1]), "--settings", os.DevNull)...); err != nil {
			t.Errorf("minimail %s: %v", e[1], err)
		}
	}
}
