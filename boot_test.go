//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/smtp"
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

// owner is the user of the boot tests, as in the article.
const owner = "mschilli"

// A machine is a throwaway copy of this one: an overlay over /, thrown away with
// the test, with an empty /run, and with processes and a loopback of its own, so
// that port 25 is free. The test itself is on it, and nobody else.
type machine struct {
	host  *host
	mails chan string

	inside func(argv ...string) (out string, status int) // the container that was booted
}

// machineVariable names the machine's directory for the test that runs in it.
const machineVariable = "TEST_MACHINE"

// onMachine runs the calling test once more, within namespaces of its own, and
// there calls do. What happens there is this test's result.
func onMachine(t *testing.T, do func(t *testing.T, m *machine)) {
	t.Helper()
	onMachineWith(t, "", do)
}

// onMachineWith adds to the environment there.
func onMachineWith(t *testing.T, variable string, do func(t *testing.T, m *machine)) {
	t.Helper()
	needRoot(t)
	for _, name := range []string{"unshare", "dpkg", "update-rc.d", "useradd"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs a Debian machine: ", err)
		}
	}
	if dir := os.Getenv(machineVariable); dir != "" {
		m := newMachine(t, dir)
		do(t, m)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	isolate := []string{"--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"}
	if out, err := exec.Command("unshare", append(isolate, "true")...).CombinedOutput(); err != nil {
		t.Skipf("needs namespaces: %v: %s", err, out)
	}
	// The shell is the init of the new process namespace, and reaps.
	cmd := exec.Command("unshare", append(isolate, "sh", "-c", `"$@"; exit $?`, "sh",
		self, "-test.v", "-test.timeout", "3m", "-test.run", "^"+t.Name()+"$")...)
	cmd.Env = append(os.Environ(), machineVariable+"="+publicDir(t), packagesVariable+"="+packages(t))
	if variable != "" {
		cmd.Env = append(cmd.Env, variable)
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("on the machine: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("on the machine:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("the test has not run on the machine:\n%s", out)
	}
}

func newMachine(t *testing.T, dir string) *machine {
	t.Helper()
	changes, root := filepath.Join(dir, "changes"), filepath.Join(dir, "root")
	mount := func(source, target, kind, data string, flags uintptr) {
		t.Helper()
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			t.Skipf("needs to mount %s %s: %v", kind, data, err)
		}
	}
	mount("tmpfs", changes, "tmpfs", "", 0)
	upper, work := filepath.Join(changes, "upper"), filepath.Join(changes, "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const marker = "/minimail-test-machine"
	write(t, upper+marker, "")
	mount("overlay", root, "overlay", "lowerdir=/,upperdir="+upper+",workdir="+work, 0)
	for _, d := range []string{"/proc", "/dev", "/sys"} {
		mount(d, root+d, "", "", syscall.MS_BIND|syscall.MS_REC)
	}
	for _, d := range []string{os.TempDir(), changes} {
		mount(d, root+d, "", "", syscall.MS_BIND)
	}
	mount("tmpfs", root+"/run", "tmpfs", "mode=755", 0)
	moveTo(t, root)
	if !exists(marker) {
		t.Fatal("this is not the throwaway machine")
	}
	command(t, "ip", "link", "set", "lo", "up")
	for _, f := range []string{"/usr/sbin/policy-rc.d", "/etc/default/minimail", "/etc/init.d/minimail", "/var/log/minimail.log"} {
		_ = os.Remove(f) // in case this machine has one
	}
	if err := os.Mkdir("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	// invoke-rc.d asks what init says: it has booted.
	_ = os.Remove("/sbin/runlevel")
	write(t, "/sbin/runlevel", "#!/bin/sh\necho N 2\n")
	if err := os.Chmod("/sbin/runlevel", 0o755); err != nil {
		t.Fatal(err)
	}
	m := &machine{mails: make(chan string, 10)}
	m.addUser(t)
	return m
}

// moveTo makes root the / of all processes of the namespace; unlike chroot(2),
// which Debian's scripts notice.
func moveTo(t *testing.T, root string) {
	t.Helper()
	err := os.Chdir(root)
	if err == nil {
		err = syscall.PivotRoot(".", ".") // pivot_root(2): puts the old one on top
	}
	if err == nil {
		err = syscall.Unmount(".", syscall.MNT_DETACH)
	}
	if err == nil {
		err = os.Chdir("/")
	}
	if err != nil {
		t.Fatal("moving to the throwaway machine: ", err)
	}
}

// addUser makes the owner, who can log in to Host far of a host.
func (m *machine) addUser(t *testing.T) {
	t.Helper()
	m.host = newHost(t)
	m.run(t, 0, "useradd", "--create-home", owner)
	ssh := "/home/" + owner + "/.ssh/"
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(read(t, m.host.path("ssh_config")), m.host.dir+"/", "~/.ssh/")
	write(t, ssh+"config", config)
	for _, f := range []string{"key", "known_hosts"} {
		write(t, ssh+f, read(t, m.host.path(f)))
	}
	if err := os.Chmod(ssh+"key", 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(t, 0, "chown", "-R", owner+":", ssh)
}

// run runs a command on the machine, with as little environment as at boot, and
// whatever NAME=value stands before it.
func (m *machine) run(t *testing.T, status int, argv ...string) string {
	t.Helper()
	out, got := m.try(argv...)
	if got != status {
		t.Fatalf("%s: status %d, want %d\n%s", strings.Join(argv, " "), got, status, out)
	}
	return out
}

func (m *machine) try(argv ...string) (string, int) {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	for strings.Contains(argv[0], "=") {
		env, argv = append(env, argv[0]), argv[1:]
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// install installs the package, as sudo would have it done.
func (m *machine) install(t *testing.T) string {
	t.Helper()
	deb, err := filepath.Glob(filepath.Join(packages(t), "*_amd64.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("packages: %v, %v", deb, err)
	}
	return m.run(t, 0, "SUDO_USER="+owner, "dpkg", "--install", deb[0])
}

// setHost edits one line of the settings; the rest is so that tests are quick,
// and to reach the test's mail server.
func (m *machine) setHost(t *testing.T, more ...string) {
	t.Helper()
	far := mailServer(t, func(mail string) { m.mails <- mail })
	s := strings.Replace(read(t, defaultSettings), "#MINIMAIL_HOST=me@host.example.com", "MINIMAIL_HOST=far", 1)
	more = append(more, "MINIMAIL_SSH_OPTION=\"ConnectTimeout=5\"",
		fmt.Sprintf("MINIMAIL_FORWARD=25:1025:%s", far), "MINIMAIL_PROTOCOL=smtp", "MINIMAIL_IDLE=0", "MINIMAIL_JITTER=0", "")
	write(t, defaultSettings, s+strings.Join(more, "\n"))
}

// send sends a mail to a server.
func send(at, subject string) error {
	conn, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience)) // longer than --wait, to hear why
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	if err := errors.Join(c.Mail("a@near.test"), c.Rcpt("b@far.test")); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "Subject: %s\r\n\r\nhello\r\n", subject); err != nil {
		return err
	}
	return errors.Join(w.Close(), c.Quit())
}

// sends sends mails to both addresses of port 25, and waits until they are
// there.
func (m *machine) sends(t *testing.T) {
	t.Helper()
	for _, at := range []string{"127.0.0.1:25", "[::1]:25"} {
		if err := send(at, "by "+at); err != nil {
			t.Fatalf("a mail to %s: %v\n%s", at, err, m.log())
		}
		select {
		case mail := <-m.mails:
			if !strings.Contains(mail, "by "+at) {
				t.Fatalf("got the mail %q, want the one to %s", mail, at)
			}
		case <-time.After(patience):
			t.Fatalf("the mail to %s has not arrived", at)
		}
	}
}

func (m *machine) log() string {
	b, _ := os.ReadFile("/var/log/minimail.log")
	return string(b)
}

// pid is that of the daemon, which must run as the owner.
func (m *machine) pid(t *testing.T) int {
	t.Helper()
	pid, err := strconv.Atoi(read(t, "/run/minimail.pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// isOwners reads back from the kernel whose process pid is.
func (m *machine) isOwners(t *testing.T, pid int) {
	t.Helper()
	uid := strings.TrimSpace(m.run(t, 0, "id", "-u", owner))
	for _, l := range strings.Split(command(t, "sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/status", pid)), "\n") {
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

func (m *machine) daemons() []int { return commandsWith("/usr/bin/minimail\x00start") }

// files are all files of the machine, by name, with size and time; but for what
// dpkg notes for itself.
func (m *machine) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, l := range strings.Split(command(t, "find", "/etc", "/home", "/opt", "/run", "/usr", "/var", "-type", "d",
		"-printf", "%p\\tdirectory\\n", "-o", "-printf", "%p\\t%M %U %s %T@\\n"), "\n") {
		name, what, _ := strings.Cut(l, "\t")
		if !strings.HasPrefix(name, "/var/lib/dpkg/") && !strings.HasPrefix(name, "/var/cache/man/") && name != "/var/log/dpkg.log" {
			all[name] = what
		}
	}
	return all
}

// changes are what is not as before.
func (m *machine) changes(t *testing.T, before map[string]string) []string {
	t.Helper()
	var all []string
	now := m.files(t)
	for name, what := range now {
		if before[name] != what {
			all = append(all, name)
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			all = append(all, name+" is gone")
		}
	}
	return all
}

// TestThePackageIsThereAfterTheNextBoot is the article's end: install, edit one
// line, `update-rc.d minimail defaults 80`, boot.
func TestThePackageIsThereAfterTheNextBoot(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, m *machine) {
		m.install(t)
		if pids, links := m.daemons(), m.links(t); len(pids)+len(links) > 0 {
			t.Errorf("after installing there are processes %v and links %v", pids, links)
		}
		said := m.run(t, 0, "/etc/init.d/minimail", "start")
		if !strings.Contains(said, "no MINIMAIL_HOST in /etc/default/minimail") {
			t.Errorf("without a host the init script says %q", said)
		}
		m.setHost(t)
		m.run(t, 0, strings.Fields("update-rc.d minimail defaults 80")...)
		want := []string{"rc0.d/K", "rc1.d/K", "rc2.d/S", "rc3.d/S", "rc4.d/S", "rc5.d/S", "rc6.d/K"}
		if got := m.links(t); !slices.Equal(got, want) {
			t.Errorf("links %v, want %v", got, want)
		}

		m.atBoot(t, "2", "S", "start")
		m.run(t, 0, "/etc/init.d/minimail", "status")
		pid := m.pid(t)
		m.sends(t)
		m.isOwners(t, pid)
		m.run(t, 0, "/etc/init.d/minimail", "start") // it runs already
		if got := m.pid(t); got != pid {
			t.Errorf("a second start replaced %d by %d", pid, got)
		}
		m.run(t, 0, "/etc/init.d/minimail", "restart")
		if got := m.pid(t); got == pid {
			t.Error("restart has left the old one running")
		}
		m.run(t, 0, "/etc/init.d/minimail", "force-reload")
		m.sends(t)

		if err := syscall.Kill(m.pid(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the killed one is seen as dead", func() bool {
			_, status := m.try("/etc/init.d/minimail", "status")
			return status == 1
		})
		m.run(t, 0, "/etc/init.d/minimail", "start")
		m.sends(t)

		m.atBoot(t, "0", "K", "stop")
		m.run(t, 3, "/etc/init.d/minimail", "status")
		m.run(t, 0, "/etc/init.d/minimail", "stop") // it is stopped already
		m.run(t, 2, "/etc/init.d/minimail", "sotp")
		if pids := m.daemons(); len(pids) > 0 {
			t.Errorf("still running: %v", pids)
		}
	})
}

// atBoot runs what init would run in a runlevel.
func (m *machine) atBoot(t *testing.T, runlevel, kind, action string) {
	t.Helper()
	links, err := filepath.Glob("/etc/rc" + runlevel + ".d/" + kind + "[0-9][0-9]minimail")
	if err != nil || len(links) != 1 {
		t.Fatalf("links: %v, %v", links, err)
	}
	m.run(t, 0, "RUNLEVEL="+runlevel, "PREVLEVEL=N", links[0], action)
}

// links are the machine's runlevel links, as rc2.d/S.
func (m *machine) links(t *testing.T) []string {
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

// TestTheInitScriptPrefersTheUserOfTheSettings: a colleague's sudo sets their
// own SUDO_USER.
func TestTheInitScriptPrefersTheUserOfTheSettings(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.install(t)
		m.setHost(t)
		m.run(t, 0, "SUDO_USER="+intruder, "/etc/init.d/minimail", "start")
		m.isOwners(t, m.pid(t))
		m.run(t, 0, "/etc/init.d/minimail", "stop")

		// Without one in the file it is as in the article.
		s := strings.Replace(read(t, defaultSettings), "\nSUDO_USER=", "\n#SUDO_USER=", 1)
		write(t, defaultSettings, s)
		m.run(t, 1, "/etc/init.d/minimail", "start")
		m.run(t, 0, "SUDO_USER="+owner, "/etc/init.d/minimail", "start")
		m.isOwners(t, m.pid(t))
		m.run(t, 0, "/etc/init.d/minimail", "stop")
	})
}

// TestRemovingKeepsTheSettingsAndPurgingLeavesNothing compares the files before
// and after.
func TestRemovingKeepsTheSettingsAndPurgingLeavesNothing(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, m *machine) {
		before := m.files(t)
		m.install(t)
		m.setHost(t, "# mine")
		m.run(t, 0, "update-rc.d", "minimail", "defaults", "80")
		m.run(t, 0, "/etc/init.d/minimail", "start")
		pid := m.pid(t)
		said := m.install(t) // an upgrade: it goes on, with the new program
		if now := m.pid(t); now == pid {
			t.Errorf("an upgrade has left the old program running:\n%s", said)
		}
		m.run(t, 0, "dpkg", "--remove", "minimail")
		if pids := m.daemons(); len(pids) > 0 {
			t.Errorf("running after remove: %v", pids)
		}
		if s := read(t, defaultSettings); !strings.Contains(s, "# mine") {
			t.Error("remove has taken the settings")
		}
		m.run(t, 0, "/etc/init.d/minimail", "start") // at the next boot

		m.install(t)
		if pids := m.daemons(); len(pids) > 0 {
			t.Errorf("installing has started %v", pids)
		}
		if s := read(t, defaultSettings); !strings.Contains(s, "# mine") {
			t.Error("installing has replaced the settings")
		}
		m.run(t, 0, "/etc/init.d/minimail", "start")
		if err := syscall.Kill(m.pid(t), syscall.SIGKILL); err != nil { // leaves a pid file
			t.Fatal(err)
		}
		write(t, "/var/log/minimail.log.1", "")
		m.run(t, 0, "dpkg", "--purge", "minimail")
		if changes := m.changes(t, before); len(changes) > 0 {
			t.Errorf("changed: %v", changes)
		}
	})
}

// TestTheLogIsRotatedWithoutLosingALine rotates under load.
func TestTheLogIsRotatedWithoutLosingALine(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, m *machine) {
		m.install(t)
		m.setHost(t, "MINIMAIL_MAX_CLIENTS=1")
		m.run(t, 0, "/etc/init.d/minimail", "start")
		const served = "client served"
		m.sends(t)
		wantLines := func(n int, files ...string) {
			t.Helper()
			eventually(t, fmt.Sprintf("%d lines in %v", n, files), func() bool {
				got := 0
				for _, f := range files {
					b, _ := os.ReadFile(f)
					got += strings.Count(string(b), served)
				}
				return got == n
			})
		}
		const log = "/var/log/minimail.log"
		wantLines(2, log)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 20 {
				if err := send("127.0.0.1:25", "one of many"); err != nil {
					t.Error(err)
					return
				}
				<-m.mails
			}
		}()
		m.run(t, 0, "logrotate", "--force", "/etc/logrotate.d/minimail")
		<-sent
		wantLines(22, log, log+".1")

		m.sends(t)
		eventually(t, "new lines are in the new file", func() bool { return strings.Count(m.log(), served) >= 2 })
		fi, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		uid, err := strconv.Atoi(strings.TrimSpace(m.run(t, 0, "id", "-u", owner)))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != uid || fi.Mode() != 0o640 {
			t.Errorf("the new log is %d's with mode %v, want %d's with 0640", got, fi.Mode(), uid)
		}
		m.run(t, 0, "logrotate", "--force", "/etc/logrotate.d/minimail")
		m.sends(t)
		eventually(t, "lines go to the third file", func() bool { return strings.Count(m.log(), served) == 2 })
		if !exists(log + ".2.gz") {
			t.Error("the oldest is not compressed")
		}
		m.run(t, 0, "/etc/init.d/minimail", "stop")
	})
}

// TestRemovingStopsAMinimailThatWasStartedByHand: where systemd runs, systemctl
// knows nothing of it.
func TestRemovingStopsAMinimailThatWasStartedByHand(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.install(t)
		m.setHost(t)
		m.run(t, 0, "/usr/bin/minimail", "start")
		m.run(t, 0, "mkdir", "-p", "/run/systemd/system") // sd_booted(3)
		const systemctl = "/usr/local/bin/systemctl"
		write(t, systemctl, "#!/bin/sh\n")
		m.run(t, 0, "chmod", "755", systemctl)
		m.run(t, 0, "dpkg", "--remove", "minimail")
		if pids := m.daemons(); len(pids) > 0 {
			t.Errorf("still running: %v", pids)
		}
	})
}

// TestAnInstallationWithoutAPackageCanBeUndone uses what the tar.gz has in it.
func TestAnInstallationWithoutAPackageCanBeUndone(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, m *machine) {
		before := m.files(t)
		dir := t.TempDir()
		tar, err := filepath.Glob(filepath.Join(packages(t), "*-linux-amd64.tar.gz"))
		if err != nil || len(tar) != 1 {
			t.Fatalf("archives: %v, %v", tar, err)
		}
		command(t, "tar", "-C", dir, "--strip-components=1", "-xzf", tar[0])
		m.run(t, 0, "SUDO_USER="+owner, dir+"/scripts/install")
		m.setHost(t)
		m.run(t, 0, "update-rc.d", "minimail", "defaults", "80")
		m.atBoot(t, "2", "S", "start")
		m.sends(t)
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.pid(t))); err != nil || !strings.HasSuffix(exe, "/usr/local/bin/minimail") {
			t.Errorf("running %s, %v", exe, err)
		}
		if unit := read(t, "/usr/local/lib/systemd/system/minimail.service"); !strings.Contains(unit, "ExecStart=/usr/local/bin/minimail ") {
			t.Errorf("the unit starts another program:\n%s", unit)
		}
		m.run(t, 0, dir+"/scripts/install", "--uninstall")
		left := slices.DeleteFunc(m.changes(t, before), func(f string) bool {
			return f == defaultSettings || f == "/var/log/minimail.log" || isDir(f) && !strings.HasSuffix(f, "/minimail")
		})
		if len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if pids := commandsWith("/usr/local/bin/minimail\x00"); len(pids) > 0 {
			t.Errorf("still running: %v", pids)
		}
	})
}
