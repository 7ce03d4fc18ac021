package openssh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// script is a program in dir.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func empty(t *testing.T, file string) string {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheNamesOfFilesAreExpandedAsSSHDoes(t *testing.T) {
	f := Files{Home: "/home/me", User: "me", Host: "far", Config: Config{
		"user": {"you"}, "hostname": {"far.example"}, "port": {"2222"},
		"identityfile":       {"~/.ssh/id", "%d/%u/%r"},
		"userknownhostsfile": {"~/.ssh/a %d/b"}, "globalknownhostsfile": {"/etc/%h.%p.%n.%%"},
	}}
	if got := f.Keys(); !slices.Equal(got, []string{"/home/me/.ssh/id", "/home/me/me/you"}) {
		t.Errorf("keys %q", got)
	}
	if got := f.KnownHosts(); !slices.Equal(got, []string{"/home/me/.ssh/a", "/home/me/b", "/etc/far.example.2222.far.%"}) {
		t.Errorf("known hosts %q", got)
	}
	if got := f.Name("/x/~/y"); got != "/x/~/y" {
		t.Errorf("%q", got)
	}
}

func TestTheKeyToBeAcceptedIsOneThatIsThereOrTheOneThatIsNamedOrTheUsualOne(t *testing.T) {
	dir := t.TempDir()
	there, also := empty(t, filepath.Join(dir, "there")), empty(t, filepath.Join(dir, "also"))
	for _, test := range []struct {
		keys []string
		want string
	}{
		{[]string{"/none", there, also}, there},
		{[]string{"/none"}, "/none"},
		{[]string{"/none", "/neither"}, dir + "/.ssh/id_ed25519"},
		{nil, dir + "/.ssh/id_ed25519"},
	} {
		if got := (Files{Home: dir, Config: Config{"identityfile": test.keys}}).Key(); got != test.want {
			t.Errorf("of %q: %s, want %s", test.keys, got, test.want)
		}
	}
}

func TestWhetherSSHKeepsAHostAndWhetherItAsks(t *testing.T) {
	for name, keeps := range map[string]bool{"/dev/null /kh": false, "/kh /dev/null": true, "none": false, "/kh": true} {
		if got := (Files{Config: Config{"userknownhostsfile": {name}}}).KeepsHosts(); got != keeps {
			t.Errorf("in %q: %t", name, got)
		}
	}
	for value, nobody := range map[string]bool{"accept-new": true, "false": true, "no": true, "off": true, "true": false, "ask": false, "": false} {
		if got := (Files{Config: Config{"stricthostkeychecking": {value}}}).AsksNobody(); got != nobody {
			t.Errorf("StrictHostKeyChecking %s: asks nobody %t", value, got)
		}
	}
}

func TestAKeyOrAFileOfKnownHostsThatIsAFIFOIsNamed(t *testing.T) {
	dir := t.TempDir()
	plain, fifo := empty(t, filepath.Join(dir, "plain")), filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ key, known, want string }{
		{plain, plain, ""}, {fifo, plain, fifo}, {plain, fifo, fifo}, {filepath.Join(dir, "none"), plain, ""},
	} {
		if got := (Files{Config: Config{"identityfile": {test.key}, "userknownhostsfile": {test.known}}}).FIFO(); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func TestAHostIsLookedForUnderTheNameThatSSHGivesIt(t *testing.T) {
	dir := t.TempDir()
	// It knows the host of the argument of -F in the file of -f whose name says so.
	script(t, dir, "ssh-keygen", `[ "$1 $3" = "-F -f" ] || exit 2
case $4 in
*key) printf '# Host %s found: line 1 \n%s ssh-ed25519 AAAA\n' "$2" "$2" ;;
*ca) printf '# Host %s found: line 1 \n@cert-authority %s ssh-ed25519 AAAA\n' "$2" "$2" ;;
*both) printf '# Host a found: line 1 \n@cert-authority a ssh-ed25519 AAAA\n# Host a found: line 2 \na ssh-ed25519 AAAA\n' ;;
*fails) echo something; exit 1 ;;
esac`)
	for _, test := range []struct {
		config      Config
		host, file  string
		bySignature bool
	}{
		{Config{"hostname": {"far"}, "port": {"22"}, "userknownhostsfile": {"/none /fails /key /ca"}}, "far", "/key", false},
		{Config{"hostname": {"far"}, "port": {"2222"}, "userknownhostsfile": {"/key"}}, "[far]:2222", "/key", false},
		{Config{"hostname": {"far"}, "port": {"2222"}, "hostkeyalias": {"other"}, "userknownhostsfile": {"/ca /key"}}, "other", "/ca", true},
		{Config{"hostname": {"far"}, "port": {"22"}, "userknownhostsfile": {"/both"}}, "far", "/both", false},
		{Config{"hostname": {"far"}, "port": {"22"}, "userknownhostsfile": {"/none"}, "globalknownhostsfile": {"/fails"}}, "far", "", false},
	} {
		f := Files{Config: test.config, Program: filepath.Join(dir, "ssh")}
		if host, file, by := f.KnownAs(t.Context()); host != test.host || file != test.file || by != test.bySignature {
			t.Errorf("%q: %q in %q, by signature %t", test.config, host, file, by)
		}
	}
}

func TestAKeyIsTriedWithoutAPassphrase(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "ssh-keygen", `[ "$1|$2|$3|$4" = "-y|-P||-f" ] || exit 2
case $5 in
/good) echo ssh-ed25519 AAAA ;;
/mute) exit 1 ;;
*) printf 'first\n  incorrect passphrase supplied \n' >&2; exit 255 ;;
esac`)
	f := Files{Program: filepath.Join(dir, "ssh")}
	for path, want := range map[string][2]string{
		"/good": {"ssh-ed25519 AAAA\n", ""}, "/mute": {"", "exit status 1"}, "/locked": {"", "incorrect passphrase supplied"},
	} {
		if public, why := f.TryKey(t.Context(), path); public != want[0] || why != want[1] {
			t.Errorf("%s: %q, %q", path, public, why)
		}
	}
}

func TestTheAgentThatIsAskedIsTheOneThatSSHWouldAsk(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SSH_AUTH_SOCK", "/two")
	// It has as many keys as the agent's name says.
	script(t, dir, "ssh-add", `[ "$*" = -l ] || exit 2
case $SSH_AUTH_SOCK in
/home/one) echo 256 a ;;
/two) echo 256 a; echo 256 b ;;
'') echo Could not open a connection to your authentication agent. >&2; exit 2 ;;
*) echo The agent has no identities.; exit 1 ;;
esac`)
	for _, test := range []struct {
		agent []string
		want  int
	}{
		{nil, 2}, {[]string{"none"}, 0}, {[]string{"SSH_AUTH_SOCK"}, 2}, {[]string{"$SSH_AUTH_SOCK"}, 2}, {[]string{"~/one"}, 1}, {[]string{"/three"}, 0},
	} {
		f := Files{Home: "/home", Program: filepath.Join(dir, "ssh"), Config: Config{}}
		if test.agent != nil {
			f.Config["identityagent"] = test.agent
		}
		if got := f.AgentKeys(t.Context()); got != test.want {
			t.Errorf("IdentityAgent %q: %d keys, want %d", test.agent, got, test.want)
		}
	}
}

func TestTheOtherProgramsAreThoseBesideSSHIfItHasAny(t *testing.T) {
	dir := t.TempDir()
	beside := script(t, dir, "ssh-add", "")
	t.Chdir(dir) // where an ssh of no path would have it, too
	for program, want := range map[string]string{filepath.Join(dir, "ssh"): beside, "/none/ssh": "ssh-add", "": "ssh-add"} {
		if got := (Files{Program: program}).Beside("ssh-add"); got != want {
			t.Errorf("of %q: %q, want %q", program, got, want)
		}
	}
}

func TestATrialWritesNothingIntoKnownHosts(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := &Client{Version: Version{9, 2}, Command: Command{Program: "ssh", Host: "far"}}
	hosts := Config{"userknownhostsfile": {"/a"}, "globalknownhostsfile": {"/b /c"}}
	for check, want := range map[string]string{
		"ask":        "-v -o UpdateHostKeys=no",
		"accept-new": "-v -o UpdateHostKeys=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/a /b /c",
	} {
		hosts["stricthostkeychecking"] = []string{check}
		if got, want := strings.Join(c.ArgvOfTrial(Files{Config: hosts}), " "), "ssh "+want+strings.TrimPrefix(strings.Join(c.Argv(), " "), "ssh"); got != want {
			t.Errorf("%s: %s\nwant %s", check, got, want)
		}
	}
	hosts["userknownhostsfile"] = []string{"/dev/null"} // it keeps none anyway
	if got := strings.Join(c.ArgvOfTrial(Files{Config: hosts}), " "); strings.Contains(got, "KnownHostsFile") {
		t.Errorf("%s", got)
	}
}
