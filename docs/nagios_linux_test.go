package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// The commands and definitions of docs/nagios.md, run by the real Nagios and
// nullmailer of Debian, on a machine to throw away.

// A nagios is one that runs on a machine, with Debian's configuration and that
// of docs/nagios.md.
type nagios struct {
	*testbed.Machine
	blocks []string // of the page, with the owner in place of me
}

const (
	nagiosCfg      = "/etc/nagios4/nagios.cfg"
	nagiosLog      = "/var/log/nagios4/nagios.log"
	nagiosCommands = "/var/lib/nagios4/rw/nagios.cmd"
	nagiosStatus   = "/var/lib/nagios4/status.dat"
)

// onNagios does something where Nagios and minimail run.
func onNagios(t *testing.T, do func(t *testing.T, n *nagios)) {
	t.Helper()
	testbed.NeedRoot(t)
	t.Parallel()
	page := testbed.Read(t, "docs/nagios.md")
	testbed.Debs(t, "nagios")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		n := &nagios{Machine: m}
		for _, b := range regexp.MustCompile(`(?m)(^    .*\n|^\n)+`).FindAllString(page, -1) {
			b = strings.TrimSpace(regexp.MustCompile(`(?m)^    `).ReplaceAllString(b, ""))
			n.blocks = append(n.blocks, strings.NewReplacer("-u me ", "-u "+testbed.Owner+" ", "(me)", "("+testbed.Owner+")", "--user me", "--user "+testbed.Owner).Replace(b))
		}
		m.Install(t)
		m.SetHost(t, "MINIMAIL_WAIT="+wait)
		m.Run(t, 0, "/etc/init.d/minimail", "start")
		n.installNagios(t)
		do(t, n)
	})
}

// block is the page's part that begins like that.
func (n *nagios) block(t *testing.T, beginning string) string {
	t.Helper()
	var all []string
	for _, b := range n.blocks {
		if strings.HasPrefix(b, beginning) {
			all = append(all, b)
		}
	}
	if len(all) == 0 {
		t.Fatalf("docs/nagios.md has no %q", beginning)
	}
	return strings.Join(all, "\n\n")
}

func (n *nagios) installNagios(t *testing.T) {
	t.Helper()
	testbed.Write(t, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n") // they are started below
	n.Run(t, 0, "chmod", "+x", "/usr/sbin/policy-rc.d")
	n.Run(t, 0, append([]string{"dpkg", "--force-confdef", "--force-confold", "--install"}, testbed.Debs(t, "nagios")...)...)
	_ = os.Remove("/usr/sbin/policy-rc.d")
	testbed.Write(t, "/etc/sudoers.d/minimail", n.block(t, "nagios ALL=")+"\n")
	testbed.Write(t, "/etc/nagios4/conf.d/minimail.cfg", n.block(t, "define ")+"\n")
	testbed.Write(t, "/etc/nagios4/conf.d/test.cfg", fmt.Sprintf(testService+testService+testContact, "power", "me", "queued", "queue"))
	paced(t)
	lines := strings.Split(n.block(t, "sudo nagios4 -v"), "\n")
	if out := n.Run(t, 0, "sh", "-c", lines[0]); !strings.Contains(out, "Things look okay") {
		t.Fatalf("%s says:\n%s", lines[0], out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Nagios' log:\n%s\nminimail's:\n%s", n.nagiosLog(), n.Log())
		}
	})
	n.runAlone(t, lines[1])
	testbed.Eventually(t, "Nagios takes commands", func() bool { return testbed.Exists(nagiosCommands) })
}

// Both times are twice what they are by default, 25 s and 30 s: a busy machine may take
// seconds for each of the tries, and of the logins.
const (
	wait    = "50s"
	timeout = "60"
)

// paced has Nagios show its state sooner, and its patience with a mail in proportion.
func paced(t *testing.T) {
	t.Helper()
	if help := testbed.Run(t, testbed.Program, "--help"); !regexp.MustCompile(`--wait .*\(25s\)`).MatchString(help) {
		t.Errorf("minimail's patience is another one:\n%s", help)
	}
	text := testbed.Read(t, nagiosCfg)
	for was, is := range map[string]string{"status_update_interval=10": "status_update_interval=1", "notification_timeout=30": "notification_timeout=" + timeout} {
		if !strings.Contains(text, "\n"+was+"\n") {
			t.Fatalf("not in %s: %s", nagiosCfg, was)
		}
		text = strings.Replace(text, "\n"+was+"\n", "\n"+is+"\n", 1)
	}
	testbed.Write(t, nagiosCfg, text)
}

// testService is one whose state the test tells.
const testService = `
define service {
    use                     generic-service
    host_name               localhost
    service_description     %s
    check_command           check_minimail
    active_checks_enabled   0
    max_check_attempts      1
    flap_detection_enabled  0
    contacts                %s
    contact_groups          null
}
`

const testContact = `
define contact {
    contact_name            queue
    use                     generic-contact
    email                   queue@example.com
}
`

func (n *nagios) nagiosLog() string {
	b, _ := os.ReadFile(nagiosLog)
	return string(b)
}

// tell gives Nagios an external command.
func (n *nagios) tell(t *testing.T, format string, args ...any) {
	t.Helper()
	f, err := os.OpenFile(nagiosCommands, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "[%d] %s\n", time.Now().Unix(), fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}

// result is a service's new state.
func (n *nagios) result(t *testing.T, service string, state int, text string) {
	t.Helper()
	n.tell(t, "PROCESS_SERVICE_CHECK_RESULT;localhost;%s;%d;%s", service, state, text)
}

// gets waits for the next mail, which must match.
func (n *nagios) gets(t *testing.T, re string) {
	t.Helper()
	select {
	case mail := <-n.Mails:
		if !regexp.MustCompile(re).MatchString(mail) {
			t.Errorf("the mail is %q, want %s", mail, re)
		}
	case <-time.After(2 * testbed.Patience):
		t.Fatal("no mail has come")
	}
}

// logs waits until Nagios' log matches.
func (n *nagios) logs(t *testing.T, re string) {
	t.Helper()
	for deadline := time.Now().Add(2 * testbed.Patience); !regexp.MustCompile(re).MatchString(n.nagiosLog()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Nagios does not log %s", re)
		}
	}
}

// runAlone runs a line of sh that may leave a daemon, which would keep our pipe.
func (n *nagios) runAlone(t *testing.T, line string) {
	t.Helper()
	n.Run(t, 0, "sh", "-c", "{ "+line+"\n} </dev/null >/tmp/said 2>&1")
}

// TestNagiosMailsThroughMinimail: what docs/nagios.md says of mails, and of
// those that cannot be delivered.
func TestNagiosMailsThroughMinimail(t *testing.T) {
	onNagios(t, func(t *testing.T, n *nagios) {
		n.result(t, "power", 2, "on battery")
		n.gets(t, `(?s)^From: nagios@example\.com\r\n.*To: me@example\.com\r\nSubject: PROBLEM: power on localhost is CRITICAL\r\n\r\non battery\r\n`)

		// The first mail leaves as soon as the network is there.
		n.Host.Stop()
		n.result(t, "power", 0, "on line")
		testbed.Eventually(t, "ssh has failed", func() bool { return strings.Contains(n.Log(), "ended by itself") })
		n.Host.Start(t)
		n.gets(t, `Subject: RECOVERY: power on localhost is OK`)

		// If it is not there in time, 421 says why before Nagios ends the command.
		n.Host.Stop()
		n.result(t, "power", 2, "on battery")
		n.logs(t, `wproc: NOTIFY job \d+ from worker Core Worker \d+ is a non-check helper but exited with return code \d+`)
		n.logs(t, `wproc:   stderr line 0\d: msmtp: .*\n(?:.*wproc:   stderr line \d+: .*\n)*.*421 \S+ minimail: no tunnel to far: .*Connection refused`)
		if strings.Contains(n.nagiosLog(), "timed out") {
			t.Error("Nagios has ended the command")
		}

		// With a queue nothing is lost.
		for _, l := range strings.Split(n.block(t, "sudo apt install nullmailer"), "\n")[1:] {
			n.runAlone(t, l)
		}
		key := testbed.Read(t, n.Host.Path("key.pub"))
		testbed.Write(t, n.Host.Path("key.pub"), "")
		n.Host.Start(t)
		n.Run(t, 0, "minimail", "restart") // need not wait for its pause, either
		n.result(t, "queued", 2, "it waits")
		testbed.Eventually(t, "nullmailer has been refused", func() bool {
			queue, _ := filepath.Glob("/var/spool/nullmailer/queue/*")
			return len(queue) > 0 && strings.Contains(n.Log(), "Permission denied (publickey)")
		})
		testbed.Write(t, n.Host.Path("key.pub"), key)
		n.Run(t, 0, "minimail", "restart")
		n.runAlone(t, "service nullmailer restart") // need not wait for its pause
		n.gets(t, `(?s)queue@example\.com.*it waits`)
	})
}

// TestNagiosWatchesMinimail: what docs/nagios.md says of the plugin, as one
// tries it by hand and as Nagios sees it.
func TestNagiosWatchesMinimail(t *testing.T) {
	onNagios(t, func(t *testing.T, n *nagios) {
		try := strings.Fields(n.block(t, "sudo -u nagios "))
		known := "/home/" + testbed.Owner + "/.ssh/known_hosts"
		n.answers(t, try, 0, `^MINIMAIL OK - login: far lets us in, in \d+ ms [^;]*; far end: \S+ says: 220 .*\| time=\d+\.\d+s\n$`)
		n.sees(t, 0, `MINIMAIL OK - login: far lets us in`)
		if !regexp.MustCompile(`\tperformance_data=time=\d+\.\d+s\n`).MatchString(n.status()) {
			t.Error("Nagios has no performance data")
		}

		n.Run(t, 0, "chmod", "g+w", known)
		n.answers(t, try, 1, `^MINIMAIL WARNING - ~/\.ssh: others can write to `+known+` \(mode 0664\)\| time=.*\n$`)
		n.sees(t, 1, `MINIMAIL WARNING - ~/\.ssh: others can write`)
		n.Run(t, 0, "chmod", "g-w", known)

		n.Host.Stop()
		n.answers(t, try, 2, `^MINIMAIL CRITICAL - login: .*Connection refused: no sshd listens there, or a firewall refuses\n$`)
		n.sees(t, 2, `MINIMAIL CRITICAL - login: .*Connection refused`)

		settings := testbed.Read(t, testbed.SettingsFile)
		testbed.Write(t, testbed.SettingsFile, "MINIMAIL_HOST=\n")
		n.answers(t, try, 3, `^MINIMAIL UNKNOWN - no host to log in to\n$`)
		n.sees(t, 3, `MINIMAIL UNKNOWN - no host`)
		testbed.Write(t, testbed.SettingsFile, settings)
		n.answers(t, append([]string{"sudo", "-u", "nagios"}, try[len(try)-5:]...), 3, `^MINIMAIL UNKNOWN - user: only root can become `+testbed.Owner+`\n$`)

		n.answers(t, append(try[:len(try):len(try)], "--json"), 1, `^sudo: a password is required\n$`)
		if err := os.Remove("/etc/sudoers.d/minimail"); err != nil {
			t.Fatal(err)
		}
		n.answers(t, try, 1, `^sudo: a password is required\n$`)
		n.sees(t, 1, `\(No output on stdout\) stderr: sudo: a password is required`)
	})
}

// answers is what somebody sees who runs the plugin by hand.
func (n *nagios) answers(t *testing.T, argv []string, status int, re string) {
	t.Helper()
	if out, got := n.Try(argv...); got != status || !regexp.MustCompile(re).MatchString(out) {
		t.Errorf("exit %d, want %d, and %q, want %s", got, status, out, re)
	}
}

// sees has Nagios run the plugin, and waits for what it makes of it.
func (n *nagios) sees(t *testing.T, state int, re string) {
	t.Helper()
	n.tell(t, "SCHEDULE_FORCED_SVC_CHECK;localhost;mail tunnel;%d", time.Now().Unix())
	want := regexp.MustCompile(fmt.Sprintf(`service_description=mail tunnel\n(?:\t.*\n)*\tcurrent_state=%d\n(?:\t.*\n)*\tplugin_output=%s`, state, re))
	testbed.Eventually(t, "Nagios sees "+re, func() bool { return want.MatchString(n.status()) })
}

func (n *nagios) status() string {
	b, _ := os.ReadFile(nagiosStatus)
	return string(b)
}
