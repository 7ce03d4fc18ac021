package openssh

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOurValuesAreThoseThatTheUserHasLeftOpen(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	seen := "12"
	if runtime.GOOS != "linux" {
		seen = "5"
	}
	for name, test := range map[string]struct {
		theirs  Config
		options []string
		want    string
		loud    bool // ssh gets a -v
		probe   time.Duration
	}{
		"not asked yet":        {nil, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=5 LogLevel=VERBOSE", false, 10 * time.Second},
		"nothing":              {Config{}, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=" + seen + " LogLevel=VERBOSE", false, 10 * time.Second},
		"ssh's own count":      {Config{"serveralivecountmax": {"3"}}, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=" + seen + " LogLevel=VERBOSE", false, 10 * time.Second},
		"a count":              {Config{"serveralivecountmax": {"7"}}, nil, "ConnectTimeout=10 ServerAliveInterval=10 LogLevel=VERBOSE", false, 10 * time.Second},
		"times":                {Config{"connecttimeout": {"60"}, "serveraliveinterval": {"30"}}, nil, "LogLevel=VERBOSE", false, 30 * time.Second},
		"a proxy":              {Config{"proxycommand": {"nc"}}, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=5 LogLevel=VERBOSE", false, 10 * time.Second},
		"a jump host":          {Config{"proxyjump": {"a"}}, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=5 LogLevel=VERBOSE", true, 10 * time.Second},
		"a jump host, DEBUG":   {Config{"proxyjump": {"a"}, "loglevel": {"DEBUG1"}}, nil, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=5", false, 10 * time.Second},
		"a jump host, a level": {Config{"proxyjump": {"a"}}, []string{"loglevel QUIET"}, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=5", false, 10 * time.Second},
		"a level":              {Config{"loglevel": {"QUIET"}}, []string{"Port=22"}, "ConnectTimeout=10 ServerAliveInterval=10 ServerAliveCountMax=" + seen + " LogLevel=VERBOSE", false, 10 * time.Second},
		"no questions":         {Config{"serveraliveinterval": {"30"}}, []string{"serveraliveinterval=0"}, "ConnectTimeout=10 LogLevel=VERBOSE", false, 0},
	} {
		c := &Client{theirs: test.theirs, Command: Command{Program: "ssh", Host: "far", Options: test.options}}
		if got := strings.Join(c.Ours(), " "); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		first := []string{"ssh", "-E", "/dev/stdout", "-v", "-N"}
		if !test.loud {
			first = slices.Delete(first, 3, 4)
		}
		if got := c.Argv()[:len(first)]; !slices.Equal(got, first) {
			t.Errorf("%s: it begins with %q, want %q", name, got, first)
		}
		if got := c.Probe(); got != test.probe {
			t.Errorf("%s: asks after %s, want %s", name, got, test.probe)
		}
		if jumps := strings.HasPrefix(name, "a jump host"); c.Jumps() != jumps {
			t.Errorf("%s: another ssh is the way: %t", name, !jumps)
		}
		if h := c.NewReader().Read("debug1: Reading configuration data /c", true); h.Beside != test.loud {
			t.Errorf("%s: a line of -v is beside the point: %t", name, h.Beside)
		}
	}
}

func TestTheSummaryOfAHostIsWholeAndHasNothingElse(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	at := Config{"user": {"me"}, "hostname": {"far.example"}, "port": {"22"}, "tcpkeepalive": {"yes"}, "serveralivecountmax": {"5"}, "serveraliveinterval": {"10"}, "connecttimeout": {"10"}}
	c := &Client{Command: Command{Host: "far"}}
	if got, want := c.Summary(Config{}, at), "far is me@far.example, port 22; ConnectTimeout 10 (minimail's); ServerAliveInterval 10 (minimail's); ServerAliveCountMax 5 (minimail's); TCPKeepAlive yes (ssh's)"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.theirs = Config{"connecttimeout": {"60"}, "serveraliveinterval": {"0"}, "controlmaster": {"auto"}}
	at = Config{"user": {"me"}, "hostname": {"::1"}, "port": {"2222"}, "tcpkeepalive": {"no"}, "serveralivecountmax": {"3"}, "serveraliveinterval": {"0"}, "connecttimeout": {"60"}, "proxyjump": {"a"}, "proxycommand": {"ssh a"}}
	if got, want := c.Summary(c.theirs, at), "far is me@::1, port 2222; ProxyJump a; ProxyCommand ssh a; overridden: ControlMaster auto; ConnectTimeout 60 (yours); ServerAliveInterval 0 (yours); ServerAliveCountMax 3 (ssh's); TCPKeepAlive no (yours)"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestEachStepOfALoginIsRead(t *testing.T) {
	for line, want := range map[string][2]string{
		"debug1: Connecting to far [192.0.2.1] port 22.":                                 {string(Resolved), ""},
		"debug1: Connection established.":                                                {string(Connected), ""},
		"debug1: SSH2_MSG_NEWKEYS received":                                              {string(KeysExchanged), ""},
		"debug1: Offering public key: /home/me/.ssh/id ED25519 SHA256:abc":               {string(KeyOffered), ""},
		"debug1: Server accepts key: /home/me/a key ED25519 SHA256:abc agent":            {string(KeyAccepted), "/home/me/a key"},
		"debug1: kex.c:ssh_set_newkeys():7 (bin=ssh, pid=9): SSH2_MSG_NEWKEYS received":  {string(KeysExchanged), ""},
		"debug1: kex.c:main():7 (bin=ssh, pid=9): debug1: SSH2_MSG_NEWKEYS received":     {"", ""},
		"ssh.c:main():7 (pid=9): debug1: Connection established.":                        {string(Connected), ""},
		"debug1: sshconnect.c:ssh_connect_direct():7 (pid=9): Connection established.":   {string(Connected), ""},
		"debug1: Server accepts key: /home/me/a key ED25519 SHA256:abc and more of that": {"", ""},
		"Connection established.":                                                        {"", ""},
	} {
		if step, key := readStep(line); string(step) != want[0] || key != want[1] {
			t.Errorf("%q: %q, %q", line, step, key)
		}
	}
}
