package openssh

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWhatIsWrongWithTheSettingsIsToldApartFromWhatIsWrongElsewhere(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		script, want string
		exited       bool // the error has the program's end
	}{
		"a setting":              {"echo 'command-line: line 0: Bad configuration option: prot' >&2; exit 255", "command-line: line 0: Bad configuration option: prot", false},
		"a name service":         {"echo 'No user exists for uid 1001' >&2; exit 255", "No user exists for uid 1001: exit status 255", true},
		"no word":                {"exit 3", "exit status 3", true},
		"killed, after a word":   {"echo 'Bad owner or permissions on /c' >&2; kill -9 $$", "signal: killed", true},
		"words, and yet it goes": {"echo 'No user exists for uid 1001' >&2; echo port 22", "", false},
	} {
		c := &Client{Command: Command{Program: script(t, dir, "ssh", test.script), Host: "far"}}
		config, err := c.Ask(t.Context())
		switch {
		case test.want == "":
			if err != nil || config.One("port") != "22" || c.Known().One("port") != "22" {
				t.Errorf("%s: %v, %q", name, err, config)
			}
		case err == nil || err.Error() != test.want || errors.As(err, new(*exec.ExitError)) != test.exited || config != nil || c.Known() != nil:
			t.Errorf("%s: %v, %q", name, err, config)
		}
	}
}

// ssh -G tells of a 0 of the user's the same as of none, so it is asked once more,
// with another value behind all that the user has.
func TestWhoWantsNoQuestionsIsToldFromWhoHasNoWish(t *testing.T) {
	for _, test := range []struct {
		file, answer, include string
		want                  []string
	}{
		{"/c f", "echo serveraliveinterval 0", `"/c f"`, []string{"0"}},
		{"/cfg", "echo serveraliveinterval 7777", `"/cfg"`, nil},
		{"", "echo serveraliveinterval 7777", "~/.ssh/config /etc/ssh/ssh_config", nil},
		{"", "exit 1", "~/.ssh/config /etc/ssh/ssh_config", nil},
	} {
		dir := t.TempDir()
		ssh := script(t, dir, "ssh", `case "$*" in
*/dev/stdin*) echo "$*" > `+dir+`/args; cat > `+dir+`/behind; `+test.answer+` ;;
*) echo serveraliveinterval 0 ;;
esac`)
		c := &Client{Command: Command{Program: ssh, ConfigFile: test.file, Host: "far", Options: []string{"Port=22"}}}
		config, err := c.Ask(t.Context())
		if err != nil || !slices.Equal(config[alive], test.want) || !slices.Equal(c.Known()[alive], test.want) {
			t.Errorf("%+v: %v, %q", test, err, config)
		}
		for file, want := range map[string]string{
			"args":   "-G -N -F /dev/stdin -o Port=22 -- far\n",
			"behind": "Include " + test.include + "\nMatch all\nserveraliveinterval 7777\n",
		} {
			if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
				t.Errorf("%+v: %s %q, %v; want %q", test, file, got, err, want)
			}
		}
	}
	ssh := script(t, t.TempDir(), "ssh", `case "$*" in */dev/stdin*) echo it is asked; exit 1 ;; esac; echo serveraliveinterval 20`)
	c := &Client{Command: Command{Program: ssh, Host: "far"}}
	if config, err := c.Ask(t.Context()); err != nil || !slices.Equal(config[alive], []string{"20"}) {
		t.Errorf("of 20 seconds: %q, %v", config, err)
	}
}

// Each host says by which it goes, as ssh -G does; a and b go by each other.
func TestAJumpHostThatIsReachedByWayOfItselfIsALoop(t *testing.T) {
	ssh := script(t, t.TempDir(), "ssh", `for last; do :; done
case $last in
far) echo proxyjump you@a:22,z ;;
ssh://you@a:22) echo proxyjump ssh://b ;;
ssh://b) echo proxyjump you@a:22 ;;
near) echo proxyjump c ;;
ssh://c) echo proxyjump d ;;
esac`)
	for host, want := range map[string]string{"far": "jumphost loop via you@a:22", "near": "", "c": ""} {
		c := &Client{Command: Command{Program: ssh, Host: host}}
		config, err := c.Ask(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want || config != nil || c.Known() != nil) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
}

func TestAnSSHThatIsAskedIsToldTheEnvironmentAndThatNobodyAnswers(t *testing.T) {
	ssh := script(t, t.TempDir(), "ssh", `echo "$MARK $*"; cat; echo OpenSSH_9.7p1 "$MARK" >&2`)
	out, words, err := Ask(t.Context(), []string{"MARK=ours"}, ssh, "a", "b")
	if err != nil || out != "ours a b\n" || words != "OpenSSH_9.7p1 ours" {
		t.Errorf("%q, %q, %v", out, words, err)
	}
	ssh = script(t, t.TempDir(), "ssh", `[ "$MARK" = ours ] && echo OpenSSH_9.7p1`)
	if v, err := AskVersion(t.Context(), []string{"MARK=ours"}, ssh); err != nil || v != (Version{9, 7}) {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAProgramThatIsGivenUpIsNoFaultOfItsOwn(t *testing.T) {
	began := filepath.Join(t.TempDir(), "began")
	ssh := script(t, t.TempDir(), "ssh", "echo words >&2; > "+began+"; exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(began); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, words, err := Ask(ctx, nil, ssh); err != context.Canceled || words != "words" {
		t.Errorf("%q, %v", words, err)
	}
}

// Whom it leaves behind has its output.
func TestAProgramThatHasEndedIsNotWaitedForAnyMore(t *testing.T) {
	t.Parallel() // for it takes seconds
	dir := t.TempDir()
	ssh := script(t, dir, "ssh", "sleep 60 & echo $! >> "+dir+"/left; echo OpenSSH_9.7p1")
	t.Cleanup(func() {
		left, _ := os.ReadFile(filepath.Join(dir, "left"))
		for _, s := range strings.Fields(string(left)) {
			if pid, err := strconv.Atoi(s); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	version := make(chan Version)
	go func() {
		v, _ := AskVersion(t.Context(), nil, ssh)
		version <- v
	}()
	if out, _, err := Ask(t.Context(), nil, ssh); out != "OpenSSH_9.7p1\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if v := <-version; v != (Version{9, 7}) {
		t.Errorf("%v", v)
	}
}

func TestWithoutAPathNoProgramIsFoundAndThatIsWhatHelps(t *testing.T) {
	t.Setenv("PATH", "")
	if got := Cure("ssh", &exec.Error{Name: "ssh", Err: exec.ErrNotFound}); got != "export PATH=/usr/bin:/bin # it is not set" {
		t.Errorf("not found: %q", got)
	}
	if got := Cure("ssh", errors.New("exit status 1")); !strings.HasPrefix(got, "ssh -V #") {
		t.Errorf("something else: %q", got)
	}
}
