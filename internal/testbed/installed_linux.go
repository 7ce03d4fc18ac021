package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Install installs the package, as sudo would have it done.
func (m *Machine) Install(t testing.TB) string {
	t.Helper()
	deb, err := filepath.Glob(filepath.Join(Packages(t), "*_amd64.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("packages: %v, %v", deb, err)
	}
	return m.Run(t, 0, "SUDO_USER="+Owner, "dpkg", "--install", deb[0])
}

// SetHost edits one line of the settings; the rest is so that tests are quick, on
// a busy machine, too, and to reach the test's mail server.
func (m *Machine) SetHost(t testing.TB, more ...string) {
	t.Helper()
	far := MailServer(t, func(mail string) { m.Mails <- mail })
	s := strings.Replace(Read(t, SettingsFile), "#MINIMAIL_HOST=me@host.example.com", "MINIMAIL_HOST=far", 1)
	more = append(more, "MINIMAIL_SSH_OPTION=\"ConnectTimeout=60\"",
		fmt.Sprintf("MINIMAIL_FORWARD=25:1025:%s", far), "MINIMAIL_PROTOCOL=smtp", "MINIMAIL_IDLE=0", "MINIMAIL_JITTER=0", "")
	Write(t, SettingsFile, s+strings.Join(more, "\n"))
}

// Sends sends mails to both addresses of port 25, and waits until they are
// there.
func (m *Machine) Sends(t testing.TB) {
	t.Helper()
	for _, at := range []string{"127.0.0.1:25", "[::1]:25"} {
		if err := Send(at, "by "+at); err != nil {
			t.Fatalf("a mail to %s: %v\n%s", at, err, m.Log())
		}
		select {
		case mail := <-m.Mails:
			if !strings.Contains(mail, "by "+at) {
				t.Fatalf("got the mail %q, want the one to %s", mail, at)
			}
		case <-time.After(Patience):
			t.Fatalf("the mail to %s has not arrived", at)
		}
	}
}

func (m *Machine) Log() string {
	b, _ := os.ReadFile("/var/log/minimail.log")
	return string(b)
}

// Pid is that of the daemon, which must run as the owner.
func (m *Machine) Pid(t testing.TB) int {
	t.Helper()
	pid, err := strconv.Atoi(Read(t, "/run/minimail.pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// IsOwners reads back from the kernel whose process pid is.
func (m *Machine) IsOwners(t testing.TB, pid int) {
	t.Helper()
	uid := strings.TrimSpace(m.Run(t, 0, "id", "-u", Owner))
	for _, l := range strings.Split(Run(t, "sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/status", pid)), "\n") {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "Uid:" && !slices.Equal(f[1:], []string{uid, uid, uid, uid}):
			t.Errorf("%s, want %s", l, uid)
		case slices.Contains([]string{"CapPrm:", "CapEff:", "CapAmb:"}, f[0]) && strings.Trim(f[1], "0") != "":
			t.Errorf("capabilities left: %s", l)
		}
	}
}

func (m *Machine) Daemons() []int { return CommandsWith("/usr/bin/minimail\x00start") }

// Links are the machine's runlevel links, as rc2.d/S.
func (m *Machine) Links(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("/etc/rc?.d/[SK][0-9][0-9]minimail")
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		all[i] = filepath.Base(filepath.Dir(l)) + "/" + filepath.Base(l)[:1]
	}
	return all
}
