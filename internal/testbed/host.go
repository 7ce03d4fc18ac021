package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The accounts of the tests, which every Debian has: whom minimail becomes,
// whom it logs in as, and who must not read its mail.
const (
	RunAs    = "nobody"
	LoginAs  = "games"
	Intruder = "daemon"
)

// Patience is how long a test waits for something that should come soon, on the
// busiest of machines.
const Patience = time.Minute

// A Host is a real sshd on a loopback port, with all that ssh needs to log in
// there, in a directory of its own.
type Host struct {
	Dir  string
	Port int
	sshd *exec.Cmd
	Log  *Words
}

// NewHost starts an sshd, with extra lines in its configuration.
func NewHost(t testing.TB, extra ...string) *Host {
	t.Helper()
	NeedRoot(t)
	NeedProgram(t, "ssh", "sshd")
	h := &Host{Dir: PublicDir(t), Port: FreePort(t)}
	h.newKeys(t)
	GiveTo(t, h.Path("key"), RunAs)
	GiveTo(t, h.Path("otherkey"), RunAs)
	Write(t, h.Path("sshd_config"), strings.Join(append(extra,
		"Port "+strconv.Itoa(h.Port),
		"ListenAddress 127.0.0.1",
		"HostKey "+h.Path("hostkey"),
		"AuthorizedKeysFile "+h.Path("key.pub"),
		"StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "MaxStartups 1000", "",
	), "\n"))
	h.Trust(t, "hostkey.pub")
	h.Configure(t)
	h.Start(t)
	return h
}

// keyFiles are those of all hosts of a test binary, by name.
var keyFiles struct {
	sync.Once
	text map[string]string
}

// newKeys has the host's and its clients' keys in its directory.
func (h *Host) newKeys(t testing.TB) {
	t.Helper()
	keyFiles.Do(func() {
		keyFiles.text = map[string]string{}
		for _, key := range []string{"key", "hostkey", "otherkey"} {
			Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", h.Path(key))
			for _, name := range []string{key, key + ".pub"} {
				keyFiles.text[name] = Read(t, h.Path(name))
			}
		}
	})
	for name, text := range keyFiles.text {
		Write(t, h.Path(name), text)
		mode := os.FileMode(0o600)
		if strings.HasSuffix(name, ".pub") {
			mode = 0o644
		}
		if err := os.Chmod(h.Path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *Host) Path(name string) string { return filepath.Join(h.Dir, name) }

// Trust makes a host key the known one.
func (h *Host) Trust(t testing.TB, pub string) {
	t.Helper()
	key := strings.Fields(Read(t, h.Path(pub)))
	Write(t, h.Path("known_hosts"), fmt.Sprintf("[127.0.0.1]:%d %s %s\n", h.Port, key[0], key[1]))
}

// Configure writes the ssh_config: Host far, with lines that come first.
func (h *Host) Configure(t testing.TB, lines ...string) {
	t.Helper()
	Write(t, h.Path("ssh_config"), "Host far\n"+strings.Join(append(lines,
		"HostName 127.0.0.1",
		"Port "+strconv.Itoa(h.Port),
		"User "+LoginAs,
		"IdentityFile "+h.Path("key"),
		"IdentitiesOnly yes",
		"UserKnownHostsFile "+h.Path("known_hosts"),
		"GlobalKnownHostsFile /dev/null",
		"",
	), "\n"))
}

// Slowly is a line for configure that makes logins take a second longer.
func (h *Host) Slowly() string {
	return fmt.Sprintf("ProxyCommand sh -c 'sleep 1; exec nc 127.0.0.1 %d'", h.Port)
}

// After are lines for Configure that keep logins from going on until there is a file.
func (h *Host) After(file string) []string {
	return []string{"ConnectTimeout 60", fmt.Sprintf("ProxyCommand sh -c 'while [ ! -e %s ]; do sleep 0.05; done; exec nc 127.0.0.1 %d'", file, h.Port)}
}

// Start runs sshd until the test ends, or stop is called.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	h.StartAt(t, "127.0.0.1")
}

func (h *Host) StartAt(t testing.TB, address string) {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Fatal(err)
	}
	h.Log = new(Words)
	h.sshd = exec.Command(sshd, "-D", "-e", "-f", h.Path("sshd_config"))
	h.sshd.Stderr = h.Log
	if err := h.sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	h.Log.Wait(t, "Server listening on "+regexp.QuoteMeta(address))
}

// Stop kills sshd and all its sessions.
func (h *Host) Stop() {
	if h.sshd == nil {
		return
	}
	for _, pid := range h.Processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = h.sshd.Wait()
	h.sshd = nil
}

// Processes are sshd's, the listener first.
func (h *Host) Processes() []int { return tree(h.sshd.Process.Pid) }

// RestartWith restarts sshd with another text in its configuration.
func (h *Host) RestartWith(t testing.TB, before, after string) {
	t.Helper()
	h.Stop()
	Write(t, h.Path("sshd_config"), strings.ReplaceAll(Read(t, h.Path("sshd_config")), before, after))
	h.Start(t)
}
