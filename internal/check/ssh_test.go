package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/daemon"
	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
)

func TestTheProgramIsAnSSHOrWhyItIsNone(t *testing.T) {
	var out strings.Builder
	for _, c := range []struct {
		ssh, version, want string
		client             bool
	}{
		{"DIR/ssh", "OpenSSH_9.2p1 Debian-2\n", "OK   ssh       DIR/ssh, OpenSSH 9.2\n", true},
		{"DIR/ssh", "another one\n", "WARN ssh       DIR/ssh does not say which OpenSSH it is\n       fix: minimail check --ssh /usr/bin/ssh\n", true},
		{"DIR/ssh", "", "WARN ssh       DIR/ssh -V: exit status 1\n       fix: DIR/ssh -V # must say which OpenSSH it is; or --ssh ANOTHER\n", true},
		{"DIR/none", "", "FAIL ssh       cannot run ssh: exec: \"DIR/none\": stat DIR/none: no such file or directory\n" +
			"       fix: sudo apt install openssh-client # or --ssh ANOTHER, without options\n", false},
		{"DIR/foreign", "", "FAIL ssh       DIR/foreign -V: fork/exec DIR/foreign: exec format error\n       fix: file -L DIR/foreign # must be made for this machine; or --ssh ANOTHER\n", true},
	} {
		dir := fakes(t)
		testbed.Write(t, filepath.Join(dir, "version"), c.version)
		if c.version == "" {
			os.Remove(filepath.Join(dir, "version"))
		}
		if err := os.WriteFile(filepath.Join(dir, "foreign"), []byte("\x7fELF"), 0o755); err != nil {
			t.Fatal(err)
		}
		ssh := strings.ReplaceAll(c.ssh, "DIR", dir)
		k := checkupOf(t, &out, "--ssh", ssh)
		k.checkSSH(t.Context())
		got := strings.ReplaceAll(out.String(), dir, "DIR")
		out.Reset()
		if got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if (k.client != nil) != c.client || c.client && (k.files.Program != ssh || k.client.Program != ssh || k.client.Host != "far" || len(k.client.Env) == 0) {
			t.Errorf("%s: %+v, %q", c.ssh, k.client, k.files.Program)
		}
		if k.client != nil && k.client.Version != (openssh.Version{}) != strings.HasPrefix(c.version, "OpenSSH") {
			t.Errorf("%s: %v", c.ssh, k.client.Version)
		}
	}
}

func TestWhatSSHMakesOfItsSettingsOrWhyNothing(t *testing.T) {
	var out strings.Builder
	long, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	const answer = "user me\nhostname 192.0.2.1\nport 22\nidentityfile DIR/k\nserveraliveinterval 60\n"
	const shows = "       fix: DIR/ssh -G -- far # shows "
	for _, c := range []struct {
		ctx          context.Context
		ssh          string // what it does first
		want         string // or what it begins with
		client, know bool
	}{
		{t.Context(), "", "OK   ssh -G    far is me@192.0.2.1, port 22; ", true, true},
		{long, "", "WARN ssh -G    ssh has not said what it makes of its settings after 10 s: does a Match exec take long? Each login waits for it as well\n" + shows + "how long it takes\n", true, false},
		{t.Context(), "exit 1", "WARN ssh -G    ssh has not said what it makes of its settings: exit status 1\n" + shows + "whether it does\n", true, false},
		{t.Context(), "kill -9 $$", "WARN ssh -G    ssh has not said what it makes of its settings: signal: killed\n" + shows + "whether it does\n", true, false},
		{t.Context(), `case "$*" in *BatchMode*) exit 1; esac`, "WARN ssh -G    ssh has not said what it makes of its settings: exit status 1\n" + shows + "whether it does\n", true, false},
		{t.Context(), "echo line 1: no such option >&2; exit 255", "FAIL ssh -G    ssh does not like its settings: line 1: no such option\n       fix: DIR/ssh -v -- far # tells the line of ssh_config, or the --ssh-option\n", false, false},
		{t.Context(), "echo Bad owner or permissions on /c >&2; exit 255", "FAIL ssh -G    ssh does not like its settings: Bad owner or permissions on /c\n       fix: sudo chown ME /c && sudo chmod 600 /c\n", false, false},
		{t.Context(), `echo "Can't open user config file /c: Permission denied" >&2; exit 255`, "FAIL ssh -G    ssh does not like its settings: Can't open user config file /c: Permission denied\n       fix: sudo chown ME /c && sudo chmod 600 /c\n", false, false},
		{t.Context(), "gone", "FAIL ssh -G    cannot run ssh: fork/exec DIR/ssh: no such file or directory\n       fix: sudo apt install openssh-client # or --ssh ANOTHER, without options\n", false, false},
		{t.Context(), "fifo", "FAIL ssh -G    ssh would wait at DIR/k, which is no regular file\n       fix: ls -l DIR/k\n", false, false},
	} {
		dir := fakes(t)
		testbed.Write(t, filepath.Join(dir, "answer"), strings.ReplaceAll(answer, "DIR", dir))
		t.Setenv("MINIMAIL_SSH", filepath.Join(dir, "ssh"))
		k := checkupOf(t, &out)
		k.checkSSH(t.Context())
		out.Reset()
		switch c.ssh {
		case "gone":
			os.Remove(filepath.Join(dir, "ssh"))
		case "fifo":
			if err := syscall.Mkfifo(filepath.Join(dir, "k"), 0o600); err != nil {
				t.Fatal(err)
			}
		default:
			testbed.Write(t, filepath.Join(dir, "ssh.sh"), c.ssh+"\n")
		}
		k.checkConfig(c.ctx)
		got := strings.ReplaceAll(out.String(), dir, "DIR")
		out.Reset()
		if want := strings.ReplaceAll(c.want, "ME", daemon.UserName()); got != want && (c.ssh != "" || !strings.HasPrefix(got, want) || strings.Contains(got, "fix")) {
			t.Errorf("%s: got\n%s, want\n%s", c.ssh, got, want)
		}
		if (k.client != nil) != c.client || (k.files.Config != nil) != c.know {
			t.Errorf("%s: %v, %v", c.ssh, k.client, k.files.Config)
		}
		k.client = nil
		k.checkConfig(t.Context())
		says(t, &out, "without an ssh", "")
	}
}

// TestAFailureOnTheWayIsAboutTheLoginThere: its command, its settings, its key.
func TestAFailureOnTheWayIsAboutTheLoginThere(t *testing.T) {
	var out strings.Builder
	dir := fakes(t)
	testbed.Write(t, filepath.Join(dir, "answer"), "user me\nhostname jump.example\nport 2222\nidentityfile "+dir+"/jump\n")
	ssh := filepath.Join(dir, "ssh")
	k := checkupOf(t, &out)
	k.files = openssh.Files{Home: dir, Host: "far", Config: openssh.Config{"hostname": {"far.example"}, "port": {"22"},
		"identityfile": {dir + "/far"}, "proxycommand": {ssh + " -W %h:%p -p 2222 jump"}}}
	for _, c := range []struct {
		verdict             openssh.Verdict
		host, hostname, key string
	}{
		{openssh.Verdict{}, "far", "far.example", dir + "/far"},
		{openssh.Verdict{OnTheWay: true}, "jump", "jump.example", dir + "/jump"},
		{openssh.Verdict{OnTheWay: true, Hop: openssh.Command{Program: ssh, Host: "hop"}}, "hop", "jump.example", dir + "/jump"},
	} {
		it := k.where(t.Context(), c.verdict)
		if it.Host != c.host || it.Config.One("hostname") != c.hostname || it.Key != c.key || it.OnTheWay != c.verdict.OnTheWay || it.Quote("a b") != "'a b'" {
			t.Errorf("%+v: %+v", c.verdict, it)
		}
	}
	// The key here has nothing to do with what is wrong there.
	k.badKeys = []point{{"key", broken, "of no use", []string{"mend it"}}}
	for first, want := range map[string]string{
		"": "the host on the way does not accept the key, or wants more than that: a second factor, or a password, which nobody is there to type\n" +
			"       fix: ssh-copy-id -i DIR/jump.pub -o Port=2222 jump\n       fix: DIR/ssh -v -o Port=2222 -- jump # shows which keys are offered, and what the host wants\n",
		"debug1: Setting implicit ProxyCommand from ProxyJump: " + ssh + " -v -W '[%h]:%p' hop": "the host does not accept the key\n" +
			"       fix: ssh-copy-id -i DIR/jump.pub hop\n       fix: DIR/ssh -v -- hop # shows which keys are offered\n       fix: sudo journalctl -u ssh # on the host: why, if it has the key\n",
	} {
		k.login = login{said: openssh.NewHearing(openssh.NewReader(func() bool { return true })), err: errors.New("no tunnel to far: ")}
		k.login.said.Hear(first, true)
		k.login.said.Hear("me@jump: Permission denied (publickey).", false)
		k.login.said.Hear("banner exchange: Connection to UNKNOWN port 65535: Broken pipe", true)
		k.checkLogin(t.Context())
		saysIn(t, &out, dir, first, "FAIL login     : "+want)
	}
}
