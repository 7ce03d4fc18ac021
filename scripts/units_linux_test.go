package scripts_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// TestSystemdTakesItsSettingsFromTheSettingsFile runs the generator on settings
// files, and reads what it has written for systemd.
func TestSystemdTakesItsSettingsFromTheSettingsFile(t *testing.T) {
	const socket, alone = "Requires=minimail.socket", "AmbientCapabilities=CAP_NET_BIND_SERVICE"
	tests := map[string]struct {
		settings string
		user     string // none: no drop-in at all
		how      string
	}{
		"as shipped":          {testbed.Read(t, "scripts/minimail.default"), "", ""},
		"no user":             {"MINIMAIL_HOST=far\n", "", ""},
		"no host":             {"SUDO_USER=me\n", "", ""},
		"an empty host":       {"SUDO_USER=me\nMINIMAIL_HOST=\"\"\n", "", ""},
		"host and user":       {"MINIMAIL_HOST=far\nSUDO_USER=me\n", "me", socket},
		"quoted, exported":    {"export MINIMAIL_HOST='far'\n  SUDO_USER = \"me\" # I\n", "me", socket},
		"the last one counts": {"MINIMAIL_HOST=far\nSUDO_USER=you\nSUDO_USER=me\n", "me", socket},
		"as the program has it: MINIMAIL_USER first": {"MINIMAIL_HOST=far\nMINIMAIL_USER=me\nSUDO_USER=you\n", "me", socket},
		"root":                              {"MINIMAIL_HOST=far\nSUDO_USER=root\n", "", ""},
		"root by number":                    {"MINIMAIL_HOST=far\nSUDO_USER=00\n", "", ""},
		"more than a name":                  {"MINIMAIL_HOST=far\nSUDO_USER=me:0\n", "", ""},
		"a name that goes on":               {"MINIMAIL_HOST=far\nSUDO_USER='me\\'\n", "", ""},
		"a directory's user":                {"MINIMAIL_HOST=far\nSUDO_USER=john@corp.example\n", "john@corp.example", socket},
		"of a Windows domain":               {"MINIMAIL_HOST=far\nSUDO_USER=CORP\\john\n", `CORP\john`, socket},
		"of other letters":                  {"MINIMAIL_HOST=far\nSUDO_USER=jürgen.ö\n", "jürgen.ö", socket},
		"with what systemd would expand":    {"MINIMAIL_HOST=far\nSUDO_USER=50%u\n", "50%%u", socket},
		"in a file that is wrong elsewhere": {"MINIMAIL_IDLE: 5\nMINIMAIL_HOST=far\nSUDO_USER=me\nMINIMAIL_WAIT=soon\n", "me", socket},
		"with the ports that are usual":     {"MINIMAIL_HOST=far\nSUDO_USER=me\nMINIMAIL_FORWARD=25:1025:localhost:25\n", "me", socket},
		"ports of one's own":                {"MINIMAIL_HOST=far\nSUDO_USER=me\nMINIMAIL_FORWARD=\"26:1025:localhost:25\"\n", "me", alone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "etc/default"), 0o755); err != nil {
				t.Fatal(err)
			}
			testbed.Write(t, root+testbed.SettingsFile, tt.settings)
			units := generate(t, root)
			got := ""
			for _, f := range []string{"user", "socket", "alone"} {
				b, _ := os.ReadFile(filepath.Join(units, "minimail.service.d", f+".conf"))
				got += string(b)
			}
			if tt.user == "" && got != "" {
				t.Errorf("drop-ins: %s", got)
			}
			if tt.user != "" && (!strings.Contains(got, "\nUser="+tt.user+"\n") || strings.Count(got, "User=") != 1) {
				t.Errorf("want the user %s, got %s", tt.user, got)
			}
			for _, how := range []string{socket, alone} {
				if strings.Contains(got, how) != (how == tt.how) {
					t.Errorf("want %q, got %s", tt.how, got)
				}
			}
			if testbed.Exists(filepath.Join(units, "multi-user.target.wants")) {
				t.Error("it is enabled")
			}
		})
	}
}

// TestUpdateRcDEnablesTheUnitAsWell: systemd does not look at the links of
// runlevels if there is a native unit.
func TestUpdateRcDEnablesTheUnitAsWell(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"etc/default", "etc/rc2.d", "usr/lib/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testbed.Write(t, root+testbed.SettingsFile, "MINIMAIL_HOST=far\nSUDO_USER=me\n")
	testbed.Write(t, root+"/usr/lib/systemd/system/minimail.service", "")
	link := root + "/etc/rc2.d/K01minimail"
	symlink := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	symlink("../init.d/minimail", link)
	followed := root + "/etc/systemd/system/minimail-by-update-rc.d.socket"
	if err := os.MkdirAll(filepath.Dir(followed), 0o755); err != nil {
		t.Fatal(err)
	}
	symlink("/usr/lib/systemd/system/minimail.socket", followed)
	wants := "multi-user.target.wants/minimail.service"
	if units := generate(t, root); testbed.Exists(filepath.Join(units, wants)) {
		t.Error("it is enabled by a link that stops it")
	}
	if err := os.Rename(link, root+"/etc/rc2.d/S01minimail"); err != nil {
		t.Fatal(err)
	}
	target, err := os.Readlink(filepath.Join(generate(t, root), wants))
	if want := "/usr/lib/systemd/system/minimail.service"; target != want {
		t.Errorf("enabled is %q, want %q: %v", target, want, err)
	}
	if err := os.Remove(followed); err != nil { // as systemctl disable does
		t.Fatal(err)
	}
	if units := generate(t, root); testbed.Exists(filepath.Join(units, wants)) {
		t.Error("it is enabled again")
	}
}

// TestAStopMayTakeAsLongAsClientsMay: systemd would kill them before.
func TestAStopMayTakeAsLongAsClientsMay(t *testing.T) {
	testbed.NeedProgram(t, "systemd-analyze")
	for drain, want := range map[string]string{"": "1min 10s", "600": "11min", "1h30m": "1h 31min", "0": "1min", "1.5h": "1h 31min"} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc/default"), 0o755); err != nil {
			t.Fatal(err)
		}
		testbed.Write(t, root+testbed.SettingsFile, "MINIMAIL_HOST=far\nSUDO_USER=me\nMINIMAIL_DRAIN="+drain+"\n")
		stop := testbed.Found(`(?m)^TimeoutStopSec=(.*)$`, testbed.Read(t, generate(t, root)+"/minimail.service.d/stop.conf"))[0]
		if got := testbed.Run(t, "systemd-analyze", "timespan", stop); !strings.Contains(got, "Human: "+want+"\n") {
			t.Errorf("with a drain of %q it is %s:\n%s", drain, stop, got)
		}
	}
}

// generate runs the generator and returns the directory that it has filled.
func generate(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("scripts/minimail.generator", dir, dir, dir)
	cmd.Env = append(os.Environ(), "MINIMAIL_ROOT="+root, "MINIMAIL_PROGRAM="+testbed.Program)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestSystemdHasNothingAgainstTheUnits has them verified and rated where they
// are installed, with the drop-ins of the generator.
func TestSystemdHasNothingAgainstTheUnits(t *testing.T) {
	testbed.NeedProgram(t, "systemd-analyze")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		m.Install(t)
		for _, forward := range []string{"", "MINIMAIL_FORWARD=26:1025:localhost:25\n"} {
			testbed.Write(t, testbed.SettingsFile, "MINIMAIL_HOST=far\nSUDO_USER="+testbed.Owner+"\n"+forward)
			const generator = "/usr/lib/systemd/system-generators/minimail-generator"
			if err := os.RemoveAll("/run/systemd/generator"); err != nil {
				t.Fatal(err)
			}
			m.Run(t, 0, "mkdir", "-p", "/run/systemd/generator")
			m.Run(t, 0, generator, "/run/systemd/generator")
			units := t.TempDir()
			m.Run(t, 0, "sh", "-c", `cp -r /usr/lib/systemd/system/minimail* /run/systemd/generator/minimail.* "$1"`, "sh", units)
			service, socket := filepath.Join(units, "minimail.service"), filepath.Join(units, "minimail.socket")
			if said := m.Run(t, 0, "systemd-analyze", "verify", service, socket); strings.Contains(said, "minimail") {
				t.Errorf("verify says:\n%s", said)
			}
			said := m.Run(t, 0, "systemd-analyze", "security", "--offline=true", "--no-pager", service)
			rated := regexp.MustCompile(`exposure level for minimail.service: ([0-9.]+)`).FindStringSubmatch(said)
			if rated == nil {
				t.Fatalf("security says:\n%s", said)
			}
			rating, err := strconv.ParseFloat(rated[1], 64)
			t.Logf("with %q rated %s", forward, rated[1])
			if most := map[bool]float64{true: 1.5, false: 1.8}[forward == ""]; err != nil || rating > most {
				t.Errorf("rated %s, want %.1f at most:\n%s", rated[1], most, said)
			}
		}
	})
}

// TestSystemdsSocketsAreServedWithoutRoot has systemd's own program bind both
// sockets, pass them to a minimail that is not root, and sends mails.
func TestSystemdsSocketsAreServedWithoutRoot(t *testing.T) {
	testbed.NeedProgram(t, "systemd-socket-activate")
	h := testbed.NewHost(t)
	mails := make(chan string, 10)
	far := testbed.MailServer(t, func(mail string) { mails <- mail })
	port, dir := testbed.FreePort(t), testbed.PublicDir(t)
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	testbed.GiveTo(t, run, testbed.RunAs)
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { told.Close() })
	if err := os.Chmod(filepath.Join(dir, "notify"), 0o666); err != nil {
		t.Fatal(err)
	}

	at := []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)}
	log := new(testbed.Words)
	cmd := exec.Command("systemd-socket-activate", "-l", at[0], "-l", at[1], "-E", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"),
		"setpriv", "--reuid", testbed.RunAs, "--regid", strconv.Itoa(testbed.UidOf(t, testbed.RunAs)), "--init-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
		testbed.Program, "-X", "--host", "far", "--ssh-config", h.Path("ssh_config"), "--forward", fmt.Sprintf("%d:%d:%s", port, testbed.FreePort(t), far),
		"--protocol", "smtp", "--settings", os.DevNull, "--pid-file", filepath.Join(run, "pid"), "--idle", "0", "--jitter", "0")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH"), "HOME="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	log.Wait(t, `Listening on \[::1\]`)

	for _, a := range at {
		if err := testbed.Send(a, "by "+a); err != nil {
			t.Fatal(err)
		}
		select {
		case mail := <-mails:
			if !strings.Contains(mail, "by "+a) {
				t.Errorf("got the mail %q, want the one to %s", mail, a)
			}
		case <-time.After(testbed.Patience):
			t.Errorf("the mail to %s has not arrived", a)
		}
	}
	testbed.IsNobody(t, cmd.Process.Pid) // it has kept its pid all along
	_ = cmd.Process.Signal(syscall.SIGHUP)
	heard(t, told, "READY=1", fmt.Sprintf("MAINPID=%d", cmd.Process.Pid), "STATUS=", "RELOADING=1")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	heard(t, told, "STOPPING=1")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(testbed.Patience):
		t.Error("it does not end")
	}
	if !testbed.Exists(filepath.Join(dir, "notify")) || testbed.Exists(filepath.Join(run, "pid")) {
		t.Error("it has removed systemd's socket, or left its pid file")
	}
}

// heard waits until all of wanted have been said, each at the beginning of a
// line.
func heard(t *testing.T, told *net.UnixConn, wanted ...string) {
	t.Helper()
	_ = told.SetReadDeadline(time.Now().Add(testbed.Patience))
	said, buf := "\n", make([]byte, 8192)
	for {
		missing := ""
		for _, w := range wanted {
			if !strings.Contains(said, "\n"+w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		n, err := told.Read(buf)
		if err != nil {
			t.Fatalf("not said: %s; but:%s", missing, said)
		}
		said += string(buf[:n]) + "\n"
	}
}
