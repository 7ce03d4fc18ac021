package serve

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// logged is what newLogger writes when f logs.
func logged(t *testing.T, s settings.Settings) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := newLogger(s, &witness{File: f})
	log.Debug().Msg("a detail")
	log.Info().Str("host", "far").Int("n", 5).Msg("an event")
	return testbed.Read(t, path)
}

func TestALogLineHasATimeWithMilliseconds(t *testing.T) {
	if got := logged(t, settings.Settings{}); !regexp.MustCompile(`\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INF an event host=far n=5\n\z`).MatchString(got) {
		t.Errorf("text: %q", got)
	}
	var line struct {
		Level, Time, Message, Host string
		N                          int
	}
	got := logged(t, settings.Settings{LogJSON: true})
	if err := json.Unmarshal([]byte(got), &line); err != nil || line.Level != "info" || line.Message != "an event" || line.Host != "far" || line.N != 5 {
		t.Errorf("JSON: %q (%v)", got, err)
	}
	if _, err := time.Parse(time.RFC3339Nano, line.Time); err != nil || !strings.Contains(line.Time, ".") {
		t.Errorf("JSON: the time is %q (%v)", line.Time, err)
	}
}

func TestForeignWordsInALogAreClean(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "log")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		log := newLogger(settings.Settings{LogJSON: asJSON}, &witness{File: f})
		log.Info().Str("why", "\x1b[31m\u009b\u202e\n").Msg("an event")
		got := testbed.Read(t, path)
		if !strings.Contains(got, "?[31m???") || strings.Contains(got, `\u001b`) || strings.ContainsAny(got, "\x1b\u009b\u202e") {
			t.Errorf("JSON %v: %q", asJSON, got)
		}
	}
}

func TestOnlyAVerboseLogHasDetails(t *testing.T) {
	for _, json := range []bool{false, true} {
		if got := logged(t, settings.Settings{LogJSON: json}); strings.Contains(got, "a detail") {
			t.Errorf("terse: %q", got)
		}
		if got := logged(t, settings.Settings{LogJSON: json, Verbose: true}); strings.Count(got, "\n") != 2 {
			t.Errorf("Verbose: %q", got)
		}
	}
}

// TestALogThatRootMakesIsTheUsers is of a child: its stdout and stderr become the
// log.
func TestALogThatRootMakesIsTheUsers(t *testing.T) {
	testbed.NeedRoot(t)
	path := filepath.Join(testbed.PublicDir(t), "log")
	logs := func(path, user string) string {
		cmd := exec.Command(testbed.FakeProgram(t, "open-log"), path, user)
		cmd.Dir = "/"
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	for range 2 { // makes it, and finds it
		if out := logs(path, testbed.RunAs); out != "" {
			t.Fatal(out)
		}
	}
	if got := ownerOf(t, path); got != testbed.UidOf(t, testbed.RunAs) {
		t.Errorf("it belongs to %d", got)
	}
	if got := testbed.Read(t, path); got != strings.Repeat("from stdout\nfrom stderr\n", 2) {
		t.Errorf("in it is %q", got)
	}
	if want, out := path+": it belongs to "+testbed.RunAs+", not to "+testbed.Intruder, logs(path, testbed.Intruder); !strings.Contains(out, want) {
		t.Errorf("another user's log: %q, want %q", out, want)
	}
	if got := ownerOf(t, path); got != testbed.UidOf(t, testbed.RunAs) {
		t.Errorf("it belongs to %d now", got)
	}
	if out := logs(os.DevNull, testbed.RunAs); out != "" || ownerOf(t, os.DevNull) != 0 {
		t.Errorf("%s: %q, belongs to %d", os.DevNull, out, ownerOf(t, os.DevNull))
	}
}

func init() {
	testbed.Roles["open-log"] = func(args []string) int {
		who, err := user.Lookup(args[1])
		if err == nil {
			err = openLog(args[0], who)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("from stdout")
		fmt.Fprintln(os.Stderr, "from stderr")
		return 0
	}
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(fi.Sys().(*syscall.Stat_t).Uid)
}

func TestALogThatCannotBeOpenedIsAnErrorWithItsName(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing", "log")} {
		if err := openLog(path, nil); err == nil || !strings.HasPrefix(err.Error(), "cannot open the log "+path+": ") || !strings.Contains(fail.HintOf(err), "--log-file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestOnlyATerminalGetsColours(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fail.Colour(f) {
		t.Error("a file does")
	}
}

// TestColoursAreForTerminalsThatWantThem runs the program on one (script(1)).
// The log's colours are in internal/system/testdata/script/foreground.txtar.
func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	t.Parallel()
	testbed.NeedProgram(t, "script")
	check := " check --settings /dev/null --host far --ssh /nowhere/ssh --user " + testbed.Me(t)
	for _, c := range []struct {
		env, words string
		want       bool
	}{
		{"TERM=xterm", check, true},
		{"NO_COLOR=", check, true}, // empty means that it is not set
		{"NO_COLOR=1", check, false},
		{"TERM=dumb", check, false},
		{"TERM=xterm", " --help", false},
		{"TERM=xterm", " strat", false},
		{"TERM=xterm", " status --pid-file /nowhere/pid", false},
	} {
		cmd := exec.Command("script", "-qc", testbed.Program+c.words, "/dev/null")
		cmd.Env = append(os.Environ(), c.env)
		out, err := cmd.Output()
		if err != nil || len(out) == 0 {
			t.Fatalf("%s%s: %v\n%s", c.env, c.words, err, out)
		}
		if got := strings.Contains(string(out), "\x1b["); got != c.want {
			t.Errorf("%s%s: colours %v, want %v:\n%q", c.env, c.words, got, c.want, out)
		}
	}
}
