package openssh

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// options are the values of -o in argv, in order.
func options(argv []string) []string {
	var all []string
	for i, a := range argv {
		if a == "-o" {
			all = append(all, argv[i+1])
		}
	}
	return all
}

func TestWhatSupervisionNeedsComesBeforeTheUsersOptionsBeforeOurWishes(t *testing.T) {
	c := Command{Host: "far", Program: "ssh", ConfigFile: "/cfg", Options: []string{"ControlMaster=yes", "ConnectTimeout=99", "GatewayPorts=yes"},
		Forwards: []string{"1025:localhost:25", "/run/near:[::1]:587", "1026:/run/far"}}
	argv := c.Argv(Version{9, 2})
	if want := []string{"ssh", "-E", "/dev/stdout", "-F", "/cfg", "-N", "-o"}; !slices.Equal(argv[:7], want) {
		t.Errorf("it begins with %q, want %q", argv[:7], want)
	}
	want := []string{"-L", "1025:localhost:25", "-L", "/run/near:[::1]:587", "-L", "1026:/run/far", "--", "far"}
	if end := argv[len(argv)-len(want):]; !slices.Equal(end, want) {
		t.Errorf("it ends with %q, want %q", end, want)
	}
	all := options(argv)
	user := slices.Index(all, c.Options[0])
	if user < 0 || !slices.Equal(all[user:user+3], c.Options) {
		t.Fatalf("the user's options are not there in order: %q", all)
	}
	for _, o := range []string{"ControlMaster=no", "ControlPath=none", "ControlPersist=no", "ForkAfterAuthentication=no", "GatewayPorts=no",
		"BatchMode=yes", "RequestTTY=no", "PermitLocalCommand=no"} {
		if !slices.Contains(all[:user], o) {
			t.Errorf("not before the user's options: %s", o)
		}
	}
	for _, o := range []string{"ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"} {
		if !slices.Contains(all[user+3:], o) {
			t.Errorf("not behind the user's options: %s", o)
		}
	}
	if plain := (Command{Host: "far", Program: "ssh"}).Argv(Version{}); slices.Contains(plain, "-F") {
		t.Errorf("-F without a file: %q", plain)
	}
}

// TestTheRealSSHUnderstandsOurOptions asks the real one what it would do.
func TestTheRealSSHUnderstandsOurOptions(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh here")
	}
	version, err := AskVersion(t.Context(), ssh)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	text := "Host *\nControlMaster auto\nControlPersist 1h\nGatewayPorts yes\nRequestTTY force\nLogLevel QUIET\nServerAliveInterval 77\nHostName far.test\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Command{Host: "far", Program: ssh, ConfigFile: config, Options: []string{"GatewayPorts=yes", "ConnectTimeout=99"},
		Forwards: []string{"1025:localhost:25"}}
	got, err := c.Ask(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	for keyword, want := range map[string]string{"controlmaster": "false", "controlpersist": "no", "gatewayports": "no", "requesttty": "false",
		"batchmode": "yes", "connecttimeout": "99", "serveraliveinterval": "5", "serveralivecountmax": "3", "loglevel": "VERBOSE",
		"hostname": "far.test", "localforward": "1025 [localhost]:25", "permitlocalcommand": "no"} {
		if got.One(keyword) != want {
			t.Errorf("ssh would do %s %q, want %q", keyword, got[keyword], want)
		}
	}
	plain, err := c.AskPlainly(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plain.One("serveraliveinterval") != "77" || plain.One("controlmaster") != "auto" || plain.One("connecttimeout") != "99" {
		t.Errorf("by hand ssh would do %q", plain)
	}
}

func TestAnOldSSHIsNotAskedForWhatItDoesNotKnow(t *testing.T) {
	for v, want := range map[Version]bool{
		{}: true, {7, 9}: false, {8, 6}: false, {8, 7}: true, {8, 10}: true, {9, 0}: true, {10, 0}: true,
	} {
		argv := (Command{Host: "far", Program: "ssh"}).Argv(v)
		if got := slices.Contains(argv, "ForkAfterAuthentication=no"); got != want {
			t.Errorf("OpenSSH %v gets ForkAfterAuthentication: %v, want %v", v, got, want)
		}
	}
}

func TestSSHSaysItsVersionInManyWays(t *testing.T) {
	dir := t.TempDir()
	for line, want := range map[string]Version{
		"OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.13 30 Jan 2024":   {9, 2},
		"OpenSSH_8.9p1 Ubuntu-3ubuntu0.10, OpenSSL 3.0.2 15 Mar 2022":  {8, 9},
		"OpenSSH_10.0p2, OpenSSL 3.5.0":                                {10, 0},
		"OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2":                    {8, 1},
		"OpenSSH_7.4p1, OpenSSL 1.0.2k-fips  26 Jan 2017":              {7, 4},
		"warning: something else\nOpenSSH_9.6p1 Debian, OpenSSL 3.1.4": {9, 6},
		"Dropbear v2022.83": {},
		"":                  {},
	} {
		ssh := filepath.Join(dir, "ssh")
		script := "#!/bin/sh\n[ \"$*\" = -V ] || exit 1\ncat >&2 <<'E'\n" + line + "\nE\n"
		if err := os.WriteFile(ssh, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := AskVersion(t.Context(), ssh)
		if err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", line, got, err, want)
		}
	}
}

func TestAnSSHThatCannotRunIsAnError(t *testing.T) {
	if _, err := AskVersion(t.Context(), filepath.Join(t.TempDir(), "ssh")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is missing: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := AskVersion(t.Context(), "ssh"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("one that is not in PATH: %v", err)
	}
}

func TestSSHGetsNothingThatIsOnlyForUs(t *testing.T) {
	for _, name := range []string{"MINIMAIL_HOST", "SUDO_USER", "SUDO_COMMAND", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET", "GOCOVERDIR", "_GO_DAEMON"} {
		t.Setenv(name, "ours")
	}
	for _, name := range []string{"SSH_AUTH_SOCK", "LANG", "MY_MINIMAIL_HOST"} {
		t.Setenv(name, "theirs")
	}
	var theirs []string
	for _, kv := range Env() {
		name, value, _ := strings.Cut(kv, "=")
		if value == "ours" {
			t.Errorf("ssh gets %s", kv)
		}
		if value == "theirs" {
			theirs = append(theirs, name)
		}
	}
	if len(theirs) != 3 {
		t.Errorf("ssh gets only %q", theirs)
	}
}

func TestAnAccountWithoutAShellGetsOneForProxyCommand(t *testing.T) {
	for shell, want := range map[string]string{
		"/usr/sbin/nologin": "/bin/sh", "/bin/false": "/bin/sh", "/bin/bash": "/bin/bash", "/bin/sh": "/bin/sh",
	} {
		t.Setenv("SHELL", shell)
		cmd := exec.Command("/bin/sh", "-c", "printf %s \"$SHELL\"")
		cmd.Env = Env()
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s becomes %q (%v), want %q", shell, out, err, want)
		}
	}
}
