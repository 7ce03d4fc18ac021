package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Owner is the user of the boot tests, as in the article.
const Owner = "mschilli"

// SettingsFile is where the package has it.
const SettingsFile = "/etc/default/minimail"

// A Machine is a throwaway copy of this one: an overlay over /, thrown away with
// the test, with an empty /run, and with processes and a loopback of its own, so
// that port 25 is free. The test itself is on it, and nobody else.
type Machine struct {
	Host  *Host
	Mails chan string

	Inside func(argv ...string) (out string, status int) // the container that was booted
}

// machineVariable names the machine's directory for the test that runs in it.
const machineVariable = "TEST_MACHINE"

// OnMachine runs the calling test once more, within namespaces of its own, and
// there calls do. What happens there is this test's result.
func OnMachine(t *testing.T, do func(t *testing.T, m *Machine)) {
	t.Helper()
	NeedRoot(t)
	NeedProgram(t, "unshare", "dpkg-deb", "update-rc.d", "useradd")
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
		self, "-test.v", "-test.timeout", "9m", "-test.run", "^"+t.Name()+"$")...)
	cmd.Env = append(os.Environ(), machineVariable+"="+PublicDir(t), packagesVariable+"="+Packages(t))
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("on the machine: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("on the machine:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("the test has not run on the machine:\n%s", out)
	}
	for _, took := range Found(`(stopwatch: .*)`, string(out)) {
		t.Log(took)
	}
}

func newMachine(t testing.TB, dir string) *Machine {
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
	const marker = "/minimail-test-machine"
	for i, of := range append([]string{"/"}, mountedDirectories()...) {
		upper, work := filepath.Join(changes, fmt.Sprint("upper", i)), filepath.Join(changes, fmt.Sprint("work", i))
		for _, d := range []string{upper, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if of == "/" {
			Write(t, upper+marker, "")
		}
		mount("overlay", filepath.Join(root, of), "overlay", "lowerdir="+of+",upperdir="+upper+",workdir="+work, 0)
	}
	for _, d := range []string{"/proc", "/dev", "/sys"} {
		mount(d, root+d, "", "", syscall.MS_BIND|syscall.MS_REC)
	}
	for _, d := range []string{os.TempDir(), changes, moduleRoot} {
		if Exists(d) {
			mount(d, root+d, "", "", syscall.MS_BIND)
		}
	}
	for _, d := range []string{"/run", "/home"} {
		mount("tmpfs", root+d, "tmpfs", "mode=755", 0)
	}
	moveTo(t, root)
	if !Exists(marker) {
		t.Fatal("this is not the throwaway machine")
	}
	if err := linkUp("lo"); err != nil {
		t.Fatal(err)
	}
	m := &Machine{Mails: make(chan string, 10)}
	if _, status := m.Try("dpkg", "--status", "minimail"); status == 0 { // this machine has it
		m.Run(t, 0, "dpkg", "--purge", "minimail")
	}
	for _, f := range []string{"/usr/sbin/policy-rc.d", "/var/log/minimail.log", "/usr/local/bin/minimail"} {
		_ = os.Remove(f) // in case this machine has one
	}
	_ = os.Remove("/var/lib/man-db/auto-update") // nobody looks for words of man pages
	if err := os.Mkdir("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	// invoke-rc.d asks what init says: it has booted.
	_ = os.Remove("/sbin/runlevel")
	Write(t, "/sbin/runlevel", "#!/bin/sh\necho N 2\n")
	if err := os.Chmod("/sbin/runlevel", 0o755); err != nil {
		t.Fatal(err)
	}
	m.addUser(t)
	return m
}

// mountedDirectories are those that are not in the file system of /, and that
// programs and their packages may need.
func mountedDirectories() (all []string) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for l := range strings.Lines(string(mounts)) {
		fields := strings.Fields(l) // proc_pid_mountinfo(5)
		at := strings.NewReplacer(`\040`, " ", `\134`, `\`).Replace(fields[4])
		if regexp.MustCompile(`^/(etc|opt|usr|var)\b`).MatchString(at) && isDirectory(at) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

func isDirectory(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// moveTo makes root the / of all processes of the namespace; unlike chroot(2),
// which Debian's scripts notice.
func moveTo(t testing.TB, root string) {
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
func (m *Machine) addUser(t testing.TB) {
	t.Helper()
	m.Host = NewHost(t)
	m.Run(t, 0, "useradd", "--create-home", Owner)
	ssh := "/home/" + Owner + "/.ssh/"
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(Read(t, m.Host.Path("ssh_config")), m.Host.Dir+"/", "~/.ssh/")
	Write(t, ssh+"config", config)
	for _, f := range []string{"key", "known_hosts"} {
		Write(t, ssh+f, Read(t, m.Host.Path(f)))
	}
	if err := os.Chmod(ssh+"key", 0o600); err != nil {
		t.Fatal(err)
	}
	m.Run(t, 0, "chown", "-R", Owner+":", ssh)
}

// Run runs a command on the machine, with as little environment as at boot, and
// whatever NAME=value stands before it.
func (m *Machine) Run(t testing.TB, status int, argv ...string) string {
	t.Helper()
	out, got := m.Try(argv...)
	if got != status {
		t.Fatalf("%s: status %d, want %d\n%s", strings.Join(argv, " "), got, status, out)
	}
	return out
}

func (m *Machine) Try(argv ...string) (string, int) {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	for strings.Contains(argv[0], "=") {
		env, argv = append(env, argv[0]), argv[1:]
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// OwnMachine moves the test, as ownNetwork does, to a machine of its own.
func OwnMachine(t testing.TB) *Machine {
	t.Helper()
	dir := PublicDir(t)
	t.Cleanup(func() {
		if t.Skipped() {
			t.Error("this has to run wherever root runs the tests")
		}
		_ = unix.Unmount(filepath.Join(dir, "changes"), unix.MNT_DETACH)
	})
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return newMachine(t, dir)
}
