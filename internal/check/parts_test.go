package check

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"minimail/forward"
	"minimail/internal/settings"
	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// TestOnATerminalAPointHasASignAndElsewhereAWord: NO_COLOR leaves the signs.
func TestOnATerminalAPointHasASignAndElsewhereAWord(t *testing.T) {
	t.Parallel()
	p := point{name: "key", verdict: broken, text: "no\x1b[2J key", fixes: []string{"make one"}}
	for want, signs := range map[string][3]string{
		"FAIL key       no?[2J key\n       fix: make one\n":             plainSigns,
		"✗ key       no?[2J key\n       fix: make one\n":                signsFor("1"),
		"\x1b[31m✗\x1b[0m key       no?[2J key\n       fix: make one\n": signsFor(""),
	} {
		var out strings.Builder
		form{w: &out, signs: signs}.point(p)
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r := newForm(settings.Settings{}, f); r.signs != plainSigns {
		t.Errorf("into a file: %q", r.signs)
	}
}

func TestAPointThatIsWellNeedsNoMending(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := checkup{out: form{w: &out, signs: plainSigns}}
	c.add("a", well, "fine", "never said")
	if out.String() != "OK   a         fine\n" {
		t.Errorf("got %q", out.String())
	}
	if v := c.worst(); v != well {
		t.Errorf("worst is %d", v)
	}
	c.add("b", broken, "bad")
	c.add("c", doubtful, "odd")
	if v := c.worst(); v != broken {
		t.Errorf("worst is %d", v)
	}
}

func TestWhatOthersCanWriteInAHomeIsNamed(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	ssh := filepath.Join(home, ".ssh")
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"config", "known_hosts"} {
		testbed.Write(t, filepath.Join(ssh, f), "")
	}
	uid := os.Getuid()
	if faults, mend := tooOpen(home, uid); len(faults)+len(mend) > 0 {
		t.Errorf("nothing is wrong, but %v, %v", faults, mend)
	}
	for _, c := range []struct {
		name    string
		mode    os.FileMode
		refused bool
		mend    string
	}{
		{"", 0o775, false, "chmod go-w " + home},
		{"", 0o757, false, "chmod go-w " + home},
		{".ssh", 0o770, false, "chmod 700 " + ssh},
		{".ssh/config", 0o664, true, "chmod 600 " + ssh + "/config"},
		{".ssh/known_hosts", 0o666, false, "chmod 600 " + ssh + "/known_hosts"},
	} {
		path := filepath.Join(home, c.name)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		faults, mend := tooOpen(home, uid)
		if len(faults) != 1 || faults[0].refused != c.refused || !strings.Contains(faults[0].text, path) || !slices.Equal(mend, []string{c.mend}) {
			t.Errorf("%s, mode %o: %v, %q, want %q", path, c.mode, faults, mend, c.mend)
		}
		testbed.Run(t, "sh", "-c", c.mend)
		if faults, _ := tooOpen(home, uid); len(faults) > 0 {
			t.Errorf("%s mends nothing: %v", c.mend, faults)
		}
		if err := os.Chmod(path, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	testbed.NeedRoot(t)
	testbed.GiveTo(t, ssh, testbed.Intruder)
	if faults, mend := tooOpen(home, uid); len(faults) != 1 || faults[0].refused || !slices.Equal(mend, []string{"sudo chown 0 " + ssh}) {
		t.Errorf("of another user: %v, %q", faults, mend)
	}
}

func TestTheServiceOfAKnownMailServerIsWhatToStop(t *testing.T) {
	t.Parallel()
	f := forward.Spec{Port: 25, Near: "1025", Far: "localhost:25"}
	for name, want := range map[string]string{
		"exim4":    "sudo systemctl disable --now exim4",
		"master":   "sudo systemctl disable --now postfix",
		"minimail": "sudo minimail stop # or give check the --pid-file of the one that runs",
		"nc":       "sudo kill 77",
		"smtpd":    "sudo systemctl disable --now opensmtpd",
		"":         "sudo ss -ltnp 'sport = :25' # shows who it is; then stop it",
	} {
		l := listenerAt("127.0.0.1:25")
		if name != "" {
			l.Procs = []peer.Process{{PID: 77, Parent: 1, Name: name}}
		}
		got := new(checkup).evict(l, f, "port")
		if !slices.Equal(got, []string{want, "minimail --forward 2525:1025:localhost:25 # another port"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// read is what check makes of the words of an ssh that has ended.
func read(lines ...string) openssh.Verdict {
	r := openssh.NewReader(func() bool { return true })
	for _, l := range lines {
		r.Read(l, true)
	}
	return r.Verdict()
}

// TestWhatSSHSaysAtAFailedLoginIsExplained: each line is one of OpenSSH's.
func TestWhatSSHSaysAtAFailedLoginIsExplained(t *testing.T) {
	t.Parallel()
	c := checkup{
		Settings: settings.Settings{Host: "far", SSH: "ssh", SSHOptions: []string{"User=o'me"}},
		home:     "/home/me",
		config:   openssh.Config{"hostname": {"far.example"}, "port": {"22"}, "identityfile": {"~/.ssh/none"}},
	}
	for said, want := range map[string][2]string{
		"me@far.example: Permission denied (publickey).":                                    {"does not accept the key", `ssh-copy-id -i /home/me/.ssh/id_ed25519.pub -o 'User=o'\''me' far`},
		"me@far.example: Permission denied (password).":                                     {"takes no keys", "PubkeyAuthentication yes"},
		"Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures":    {"too many keys", "IdentitiesOnly=yes"},
		"ssh: connect to host far.example port 22: Connection timed out":                    {"a firewall drops it", "nc -vz far.example 22"},
		"ssh: connect to host far.example port 22: No route to host":                        {"network is down", "nc -vz far.example 22"},
		"ssh: connect to host far.example port 22: Connection refused":                      {"no sshd listens", "Port=N"},
		"ssh: Could not resolve hostname far.example: Temporary failure in name resolution": {"no name service", "getent hosts far.example"},
		"kex_exchange_identification: read: Connection reset by peer":                       {"fail2ban", "fail2ban"},
		"kex_exchange_identification: Connection closed by remote host":                     {"closed before the host said", "fail2ban"},
		"kex_exchange_identification: banner line contains invalid characters":              {"not an sshd", "Port=N"},
		"something new": {"", "ssh -v -o 'User=o'\\''me' -- far # to see more"},
	} {
		what, fixes := c.explainLogin(t.Context(), read(said))
		if !strings.Contains(what, want[0]) || !strings.Contains(strings.Join(fixes, "\n"), want[1]) {
			t.Errorf("%s: %s, %q", said, what, fixes)
		}
	}
}

func TestAPortBehindTheHostIsNoticed(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"me@far.example:2222": "minimail check --host me@far.example --ssh-option Port=2222",
		"far":                 "getent hosts far",
		"2001:db8::1":         "getent hosts 2001:db8::1",
	} {
		c := checkup{Settings: settings.Settings{Host: host}, config: openssh.Config{"hostname": {strings.TrimPrefix(host, "me@")}, "port": {"22"}}}
		what, fixes := c.explainLogin(t.Context(), read("ssh: Could not resolve hostname X: Name or service not known"))
		if !strings.Contains(strings.Join(fixes, "\n"), want) {
			t.Errorf("%s: %s, %q", host, what, fixes)
		}
	}
}

func TestANagiosLineHasOneBarAndOneEnd(t *testing.T) {
	t.Parallel()
	c := &checkup{}
	c.points = []point{{"login", broken, "a|b\nc", nil}, {"key", doubtful, "d", nil}}
	if got := nagiosLine(c, 2); got != "MINIMAIL CRITICAL - login: a/b?c" {
		t.Errorf("got %q", got)
	}
}

func listenerAt(at string) peer.Listener { return peer.Listener{At: netip.MustParseAddrPort(at)} }

func TestAPortThatSystemdHoldsMayBeOurs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := checkup{out: form{w: &out, signs: plainSigns}}
	l := listenerAt("127.0.0.1:25")
	l.Procs = []peer.Process{{PID: 1, Name: "systemd"}}
	c.listeners = []peer.Listener{l}
	f := forward.Spec{Binds: forward.Loopback, Port: 25, Near: "1025", Far: "localhost:25"}
	c.checkPort("port", 25, f.Binds, 2, f)
	if !strings.HasPrefix(out.String(), "WARN port      127.0.0.1:25 is held by systemd, pid 1, ") || !strings.Contains(out.String(), "fix: systemctl list-sockets") {
		t.Errorf("got %q", out.String())
	}
	// As soon as minimail has it as well, it is minimail's.
	out.Reset()
	c.listeners[0].Procs = append(c.listeners[0].Procs, peer.Process{PID: 77, Parent: 1, Name: "minimail"})
	c.pid = 77
	c.checkPort("port", 25, f.Binds, 2, f)
	if out.String() != "OK   port      25 is held by minimail itself, pid 77\n" {
		t.Errorf("got %q", out.String())
	}
}
