package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The world of a package's tests, as root: this machine's programs, but with an
// /etc, a /run and processes of its own, and no network but a loopback. So it
// does not matter who has an account here, what runs and listens, and what
// minimail or mail server is set up; and nothing outlives the tests.

// newWorldVariable names the directory of a world for its first process, which
// has to make it.
const newWorldVariable = "TEST_NEW_WORLD"

func ownUmask() { syscall.Umask(0o022) }

// outside runs the tests in a world, whose files are in dir, if we are root.
func outside(dir string, run func() int) (status int, err error) {
	if os.Geteuid() != 0 {
		return run(), nil
	}
	os.Setenv("TMPDIR", "/tmp") // other users may not enter root's own
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), newWorldVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // its death is what Pdeathsig is about
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "the tests have no world of their own:", err)
		return run(), nil
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT) // go test's at a timeout
	go func() {
		<-signals
		_ = cmd.Process.Kill() // and with it the world
	}()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), nil
}

// inside runs the tests in the world. Its first process makes it, starts the
// tests as another one, and is init for those that have lost their parents.
func inside(run func() int) (status int, err error) {
	dir := os.Getenv(newWorldVariable)
	if dir == "" {
		return run(), nil
	}
	os.Unsetenv(newWorldVariable)
	if err := newWorld(filepath.Join(dir, "etc")); err != nil {
		return 1, fmt.Errorf("cannot make a world for the tests: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var end unix.WaitStatus
		pid, err := unix.Wait4(-1, &end, 0, nil)
		if err != nil && err != unix.EINTR {
			return 1, err
		}
		if pid == cmd.Process.Pid {
			return end.ExitStatus(), nil
		}
	}
}

func newWorld(etc string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := os.Mkdir(etc, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", etc, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "/etc/.", etc).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := tidyEtc(etc); err != nil {
		return err
	}
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := os.Mkdir("/run/sshd", 0o755); err != nil {
		return err
	}
	if err := ownBadLogins(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(hostName)); err != nil {
		return err
	}
	return linkUp("lo")
}

// ownBadLogins has sshd note failed logins elsewhere than in the machine's btmp(5).
func ownBadLogins() error {
	const machines, own = "/var/log/btmp", "/run/btmp"
	if _, err := os.Stat(machines); err != nil {
		return nil
	}
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(own, machines, "", unix.MS_BIND, "")
}

// hostName is the world's, which sudo wants to resolve.
const hostName = "here"

// linkUp does what `ip link set NAME up` does.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// tidyEtc makes a copy of /etc one of a machine that nobody has set up.
func tidyEtc(etc string) error {
	for _, pattern := range []string{"default/minimail", "init.d/minimail", "rc?.d/???minimail", "systemd/system/minimail*", "msmtprc", "aliases",
		"gitconfig", "mailname", "sudoers.d/*", "ssh/ssh_config.d/*", "ssh/sshd_config.d/*", "subuid", "subgid"} {
		there, _ := filepath.Glob(filepath.Join(etc, pattern))
		for _, f := range there {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost " + hostName + "\n::1 localhost\n",
		"hostname":      hostName + "\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"sudoers": "Defaults env_reset\n" +
			"Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n" +
			"root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
		"ssh/ssh_config": "Include /etc/ssh/ssh_config.d/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n",
	} {
		file := filepath.Join(etc, name)
		if _, err := os.Stat(file); err != nil {
			continue // of a program that is not installed
		}
		if err := os.Remove(file); err != nil { // it may be a link
			return err
		}
		mode := os.FileMode(0o644)
		if name == "sudoers" {
			mode = 0o440
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			return err
		}
	}
	return onlySystemAccounts(etc)
}

// taken are the names of the accounts that tests make.
var taken = []string{Owner, "me", "newbie"}

// AddAccount has a user in the world, which must be there, without files; gid is of
// his own group.
func AddAccount(t testing.TB, name string, uid, gid int, home string) {
	t.Helper()
	addTo(t, "/etc/passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", name, uid, gid, home))
}

// AddGroup has a group in the world, which must be there.
func AddGroup(t testing.TB, name string, gid int, members ...string) {
	t.Helper()
	addTo(t, "/etc/group", fmt.Sprintf("%s:x:%d:%s\n", name, gid, strings.Join(members, ",")))
}

// AddHost has a name of addresses in the world, which must be there.
func AddHost(t testing.TB, name string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		addTo(t, "/etc/hosts", a+" "+name+"\n")
	}
}

func addTo(t testing.TB, file, line string) {
	t.Helper()
	if here, _ := os.Hostname(); here != hostName {
		t.Skip("there is no world, but an /etc of this machine's")
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// onlySystemAccounts removes all others, for which the tests have their own.
func onlySystemAccounts(etc string) error {
	for _, of := range []struct {
		table, shadow string
	}{{"passwd", "shadow"}, {"group", "gshadow"}} {
		var gone []string
		err := filterLines(filepath.Join(etc, of.table), func(fields []string) bool {
			id, err := strconv.Atoi(fields[2])
			keep := err == nil && (id < 1000 || id == 65534) && !slices.Contains(taken, fields[0])
			if !keep {
				gone = append(gone, fields[0])
			}
			return keep
		})
		if err == nil {
			err = filterLines(filepath.Join(etc, of.shadow), func(fields []string) bool { return !slices.Contains(gone, fields[0]) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// filterLines removes lines of fields with colons between them from a file.
func filterLines(file string, keep func(fields []string) bool) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil // not every machine has a gshadow
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var kept strings.Builder
	for l := range strings.Lines(string(b)) {
		if fields := strings.Split(strings.TrimSpace(l), ":"); len(fields) > 2 && keep(fields) {
			kept.WriteString(l)
		}
	}
	return os.WriteFile(file, []byte(kept.String()), info.Mode())
}
