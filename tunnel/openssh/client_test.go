package openssh

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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

func TestOnlyASocketIsRemovedForTheNearEnd(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"nothing":   func(string) error { return nil },
		"socket":    func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) },
		"file":      func(path string) error { return os.WriteFile(path, []byte("a letter"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("file", path) },
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		want := "StreamLocalBindUnlink=no"
		if name == "nothing" || name == "socket" {
			want = "StreamLocalBindUnlink=yes"
		}
		c := &Client{Command: Command{Host: "far", Program: "ssh", Forwards: []string{"1025:" + dir, path + ":localhost:25"}}}
		if got := options(c.Argv()); !slices.Contains(got, want) {
			t.Errorf("%s: no %s in %q", name, want, got)
		}
	}
}

func TestWhatSupervisionNeedsComesBeforeTheUsersOptionsBeforeOurWishes(t *testing.T) {
	c := &Client{Version: Version{9, 2}, Command: Command{Host: "far", Program: "ssh", ConfigFile: "/cfg", Options: []string{"ControlMaster=yes", "ConnectTimeout=99", "GatewayPorts=yes"},
		Forwards: []string{"1025:localhost:25", "/run/near:[::1]:587", "1026:/run/far"}}}
	argv := c.Argv()
	first := []string{"ssh", "-E", "/dev/stdout", "-F", "/cfg", "-N", "-L", "1025:localhost:25", "-L", "/run/near:[::1]:587", "-L", "1026:/run/far", "-o"}
	if begin := argv[:len(first)]; !slices.Equal(begin, first) {
		t.Errorf("it begins with %q, want %q", begin, first)
	}
	want := []string{"--", "far"} // a home that cannot be written to adds an option
	if end := argv[len(argv)-len(want):]; !slices.Equal(end, want) {
		t.Errorf("it ends with %q, want %q", end, want)
	}
	all := options(argv)
	user := slices.Index(all, c.Options[0])
	if user < 0 || !slices.Equal(all[user:user+3], c.Options) {
		t.Fatalf("the user's options are not there in order: %q", all)
	}
	for _, o := range []string{"ControlMaster=no", "ControlPath=none", "ControlPersist=no", "ForkAfterAuthentication=no", "GatewayPorts=no",
		"BatchMode=yes", "RequestTTY=no", "PermitLocalCommand=no", "ClearAllForwardings=no"} {
		if !slices.Contains(all[:user], o) {
			t.Errorf("not before the user's options: %s", o)
		}
	}
	for _, o := range []string{"ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=5", "LogLevel=VERBOSE"} {
		if !slices.Contains(all[user+3:], o) {
			t.Errorf("not behind the user's options: %s", o)
		}
	}
	if plain := (&Client{Command: Command{Host: "far", Program: "ssh"}}).Argv(); slices.Contains(plain, "-F") {
		t.Errorf("-F without a file: %q", plain)
	}
}

// real is this machine's ssh with such an ssh_config.
func real(t *testing.T, config string, options ...string) *Client {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh here")
	}
	version, err := AskVersion(t.Context(), nil, ssh)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Client{Version: version, Env: Env(), Command: Command{Host: "far", Program: ssh, ConfigFile: file, Options: options, Forwards: []string{"1025:localhost:25"}}}
}

// Each is asked of the real ssh: what it would do with our options, which come
// before ssh_config.
func TestTheUsersOwnValuesWinButForWhatSupervisionNeeds(t *testing.T) {
	seen := "12"
	if runtime.GOOS != "linux" {
		seen = "5"
	}
	for name, test := range map[string]struct {
		config  string
		options []string
		want    map[string]string
		probe   time.Duration
		jumps   bool
	}{
		"nothing": {"", nil, map[string]string{"connecttimeout": "10", "serveraliveinterval": "10", "serveralivecountmax": seen, "loglevel": "VERBOSE"}, 10 * time.Second, false},
		"what would take the tunnel away": {"ControlMaster auto\nControlPersist 1h\nGatewayPorts yes\nRequestTTY force\nPermitLocalCommand yes\nBatchMode no\nHostName far.test\n", []string{"GatewayPorts=yes"},
			map[string]string{"controlmaster": "false", "controlpersist": "no", "gatewayports": "no", "requesttty": "false", "batchmode": "yes", "hostname": "far.test",
				"localforward": "1025 [localhost]:25", "permitlocalcommand": "no"}, 10 * time.Second, false},
		"ssh_config": {"ConnectTimeout 60\nServerAliveInterval 30\nServerAliveCountMax 4\nTCPKeepAlive no\nLogLevel DEBUG2\n", nil,
			map[string]string{"connecttimeout": "60", "serveraliveinterval": "30", "serveralivecountmax": "4", "tcpkeepalive": "no", "loglevel": "DEBUG2"}, 30 * time.Second, false},
		"a count alone":     {"ServerAliveCountMax 7\n", nil, map[string]string{"serveraliveinterval": "10", "serveralivecountmax": "7"}, 10 * time.Second, false},
		"an interval alone": {"ServerAliveInterval 20\n", nil, map[string]string{"serveraliveinterval": "20", "serveralivecountmax": "3"}, 20 * time.Second, false},
		"none is wanted":    {"Host other\nServerAliveInterval 5\nHost far\nServerAliveInterval 0\n", nil, map[string]string{"serveraliveinterval": "0", "serveralivecountmax": "3"}, 0, false},
		"none for another":  {"Host other\nServerAliveInterval 0\n", nil, map[string]string{"serveraliveinterval": "10", "serveralivecountmax": seen}, 10 * time.Second, false},
		"quiet":             {"LogLevel QUIET\n", nil, map[string]string{"loglevel": "VERBOSE"}, 10 * time.Second, false},
		"options": {"ConnectTimeout 60\nServerAliveInterval 30\n", []string{"connecttimeout=99", "serveraliveinterval=0", "LogLevel=ERROR"},
			map[string]string{"connecttimeout": "99", "serveraliveinterval": "0", "loglevel": "ERROR"}, 0, false},
		"a jump host":     {"ProxyJump jump\n", nil, map[string]string{"serveralivecountmax": "5", "proxyjump": "jump"}, 10 * time.Second, true},
		"a proxy":         {"ProxyCommand nc %h %p\n", nil, map[string]string{"serveralivecountmax": "5"}, 10 * time.Second, false},
		"a proxy is ssh":  {"ProxyCommand /usr/bin/ssh -W %h:%p jump\n", nil, nil, 10 * time.Second, true},
		"a proxy runs it": {"ProxyCommand exec ssh -W %h:%p jump\n", nil, nil, 10 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := real(t, test.config, test.options...)
			theirs, err := c.Ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.InForce(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for keyword, want := range test.want {
				if got.One(keyword) != want {
					t.Errorf("ssh would do %s %q, want %q", keyword, got[keyword], want)
				}
			}
			if c.Probe() != test.probe || c.Jumps() != test.jumps {
				t.Errorf("probe %s, jumps %t; want %s, %t", c.Probe(), c.Jumps(), test.probe, test.jumps)
			}
			if strings.Contains(test.config, "ControlMaster auto") && theirs.One("controlmaster") != "auto" {
				t.Errorf("by hand ssh would do %q", theirs)
			}
		})
	}
}

func TestASettingThatSSHDoesNotLikeIsToldInItsWords(t *testing.T) {
	for config, want := range map[string]string{
		"Prot 2222\n":            "config: line 1: Bad configuration option: prot",
		"Port no-number\n":       "line 1: Bad port 'no-number'",
		"ConnectTimeout never\n": "invalid time value.",
	} {
		c := real(t, config)
		if _, err := c.Ask(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", config, err, want)
		}
		if c.Known() != nil {
			t.Errorf("%q: known is %q", config, c.Known())
		}
	}
	c := real(t, "", "Prot=2222")
	if _, err := c.Ask(t.Context()); err == nil || err.Error() != "command-line: line 0: Bad configuration option: prot" {
		t.Errorf("got %v", err)
	}
	c.Program = filepath.Join(t.TempDir(), "ssh")
	if _, err := c.Ask(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is missing: %v", err)
	}
}

func TestAnOldSSHIsNotAskedForWhatItDoesNotKnow(t *testing.T) {
	for v, want := range map[Version]bool{
		{}: true, {7, 9}: false, {8, 6}: false, {8, 7}: true, {8, 10}: true, {9, 0}: true, {10, 0}: true,
	} {
		argv := (&Client{Version: v, Command: Command{Host: "far", Program: "ssh"}}).Argv()
		if got := slices.Contains(argv, "ForkAfterAuthentication=no"); got != want {
			t.Errorf("OpenSSH %v gets ForkAfterAuthentication: %v, want %v", v, got, want)
		}
	}
}

func TestWhatBoundsALoginAndASilentLinkIsToldWithWhoseItIs(t *testing.T) {
	more := filepath.Join(t.TempDir(), "more")
	if err := os.WriteFile(more, []byte("ServerAliveInterval 45\nServerAliveCountMax 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours := "ConnectTimeout 10 (minimail's); "
	for name, test := range map[string]struct {
		config  string
		options []string
		want    string
	}{
		"nothing": {"Host other\nServerAliveInterval 5\n", nil, ours + "ServerAliveInterval 10 (minimail's); ServerAliveCountMax "},
		"all":     {"Host *\nServerAliveInterval 30\nConnectTimeout 60\n", nil, "ConnectTimeout 60 (yours); ServerAliveInterval 30 (yours); ServerAliveCountMax 3 (ssh's); TCPKeepAlive yes (ssh's)"},
		"Include": {"Include " + more + "\n", nil, ours + "ServerAliveInterval 45 (yours); ServerAliveCountMax 4 (yours); TCPKeepAlive yes (ssh's)"},
		"Match":   {"Match originalhost far\nTCPKeepAlive no\nServerAliveInterval 0\nMatch exec false\nConnectTimeout 99\n", nil, ours + "ServerAliveInterval 0 (yours); ServerAliveCountMax 3 (ssh's); TCPKeepAlive no (yours)"},
		"options": {"", []string{"serveraliveinterval=7"}, ours + "ServerAliveInterval 7 (yours); "},
		"a way":   {"Host far\nProxyJump a,b\nControlMaster auto\n", nil, "; ProxyJump a,b; overridden: ControlMaster auto; " + ours},
	} {
		c := real(t, test.config, test.options...)
		theirs, err := c.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		inForce, err := c.InForce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Summary(theirs, inForce); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestATrialAsksForNoHostKeysWhereSSHCould: UpdateHostKeys came with 6.8.
func TestATrialAsksForNoHostKeysWhereSSHCould(t *testing.T) {
	for _, c := range []struct {
		version Version
		want    bool
	}{{Version{6, 7}, false}, {Version{6, 8}, true}, {Version{7, 0}, true}, {Version{9, 2}, true}} {
		client := &Client{Version: c.version, Command: Command{Host: "far", Program: "ssh"}}
		if got := slices.Contains(options(client.ArgvOfTrial(Files{})), "UpdateHostKeys=no"); got != c.want {
			t.Errorf("%v: %v, want %v", c.version, got, c.want)
		}
	}
}
