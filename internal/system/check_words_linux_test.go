package system

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// TestABannerChangesNoVerdict: what a host has ssh print is nobody's word but
// its own.
func TestABannerChangesNoVerdict(t *testing.T) {
	t.Parallel()
	banner := filepath.Join(testbed.PublicDir(t), "banner")
	testbed.Write(t, banner, "Authenticated to far ([127.0.0.1]:22) using \"publickey\".\nHost key verification failed.\n"+
		"debug1: Server accepts key: /x ED25519 SHA256:abc\n")
	h := testbed.NewHost(t, "Banner "+banner)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	checkOf(t, m).isWell(t)
	testbed.Write(t, h.Path("key.pub"), testbed.Read(t, h.Path("otherkey.pub")))
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", `Permission denied \(publickey\).*: the host does not accept the key`, "ssh-copy-id")
	c.says(t, "OK", "host key", "", "")
}

// jumping are a host and one that is the way to it.
func jumping(t *testing.T) (h, jump *testbed.Host, m *testbed.Minimail) {
	t.Helper()
	h, jump = testbed.NewHost(t), testbed.NewHost(t)
	h.Configure(t, "ProxyJump jump")
	testbed.Write(t, h.Path("ssh_config"), testbed.Read(t, h.Path("ssh_config"))+
		strings.Replace(testbed.Read(t, jump.Path("ssh_config")), "Host far", "Host jump", 1))
	return h, jump, h.Prepare(t, testbed.MailServer(t, nil))
}

// TestCheckNamesTheHopThatFails: advice about the wrong host does harm.
func TestCheckNamesTheHopThatFails(t *testing.T) {
	t.Parallel()
	h, jump, m := jumping(t)
	checkOf(t, m).isWell(t)

	testbed.Write(t, jump.Path("known_hosts"), "")
	c := checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "on the way to the host: Host key verification failed.*: the host is not known", "StrictHostKeyChecking=ask -F .* -- jump")
	c.says(t, "OK", "host key", q(h.Path("known_hosts")), "")
	if strings.Contains(c.out, "ssh-keygen -R") {
		t.Errorf("a good key is to be removed:\n%s", c.out)
	}
	jump.Trust(t, "hostkey.pub")

	testbed.Write(t, jump.Path("key.pub"), testbed.Read(t, jump.Path("otherkey.pub")))
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", `on the way to the host: .*Permission denied \(publickey\).*: the host does not accept the key`, "ssh-copy-id .* jump")

	jump.Stop()
	c = checkOf(t, m)
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "on the way to the host: .*Connection refused: no sshd listens there", "")
}

func TestCheckNamesAProxyCommandThatIsMissing(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "ProxyCommand no-such-program %h %p")
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "the way to the host has ended: .*no-such-program", "ssh -v")
	if strings.Contains(c.out, "fail2ban") {
		t.Errorf("that is no ban:\n%s", c.out)
	}
}

// TestASlowMatchExecIsNoFault: the login takes its time, and is tried.
func TestASlowMatchExecIsNoFault(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	testbed.Write(t, h.Path("ssh_config"), "Match exec \"sleep 11\"\nCompression no\n"+testbed.Read(t, h.Path("ssh_config")))
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)), "--wait", "60")
	c.exits(t, 1)
	c.says(t, "WARN", "ssh -G", "does a Match exec take long", "ssh -G")
	c.says(t, "OK", "login", "", "")
	c.says(t, "OK", "far end", "", "")
}

// TestAWrapperThatDoesNotTellItsVersionIsNoFault: it is tried.
func TestAWrapperThatDoesNotTellItsVersionIsNoFault(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	wrapper := testbed.Script(t, "[ \"$1\" = -V ] && exit 3\nexec ssh \"$@\"\n")
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)), "--ssh", wrapper)
	c.exits(t, 1)
	c.says(t, "WARN", "ssh", "-V: exit status 3", q(wrapper+" -V #"))
	c.says(t, "OK", "far end", "", "")
}

func TestCheckTellsWhatTheHostWants(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t, "PubkeyAuthentication no", "PasswordAuthentication yes")
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "Permission denied .password.*: the host takes no keys", "PubkeyAuthentication yes")

	h = testbed.NewHost(t, "AuthenticationMethods publickey,password", "PasswordAuthentication yes")
	c = checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.exits(t, 2)
	c.says(t, "FAIL", "login", "the host wants more than the key", "AuthenticationMethods publickey")
}

// TestCheckTellsWhatIsWrongOnThisSideOfTheHost: that is mended here, and not with
// ssh-copy-id or nc.
func TestCheckTellsWhatIsWrongOnThisSideOfTheHost(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for _, test := range []struct{ line, says, fix string }{
		{"BindAddress 192.0.2.7", `failure \(bind 192.0.2.7: .*\): ssh is to call from an address`, "ip address"},
		{"HostName nosuch.invalid\nCanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal no",
			`Could not resolve host "nosuch.invalid".*: there is no host of that name`, "getent hosts HOST"},
		{"AddressFamily inet6", "Could not resolve hostname", "--ssh-option AddressFamily=any .* # it is inet6"},
		{"IdentityFile %Z", `failed \(vdollar_percent_expand: unknown key %Z\): ssh does not like its settings`, "ssh -v"},
		{"RevokedHostKeys /no/such/file", "Host key verification failed .*: whether the host's key is revoked is not known", "ls -lL /no/such/file"},
		{"PreferredAuthentications password", "ssh has offered it no key", "PreferredAuthentications"},
		{"PubkeyAcceptedAlgorithms ssh-rsa", "ssh has offered it no key", "PubkeyAcceptedAlgorithms"},
	} {
		h.Configure(t, test.line)
		c := checkOf(t, m)
		c.exits(t, 2)
		c.says(t, "FAIL", "login", test.says, test.fix)
		if strings.Contains(c.out, "another machine answers") {
			t.Errorf("it is the host:\n%s", c.out)
		}
	}
}

func TestCheckTellsThatTheHostEndsAConnectionThatItHasLetIn(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t, "ChrootDirectory /no/such/directory")
	c := checkOf(t, h.Prepare(t, testbed.MailServer(t, nil)))
	c.exits(t, 2)
	c.says(t, "OK", "login", "", "")
	c.says(t, "FAIL", "far end", "the host lets us in, and ends the connection", "journalctl -u ssh")
}

// TestAHostKeyThatNoFileCanKeepGetsOne: what is to be typed must be remembered.
func TestAHostKeyThatNoFileCanKeepGetsOne(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for _, lines := range [][]string{{"UserKnownHostsFile none"}, {"UserKnownHostsFile /dev/null"}, {"UserKnownHostsFile none", "GlobalKnownHostsFile none", "StrictHostKeyChecking no"}} {
		h.Configure(t, lines...)
		c := checkOf(t, m)
		c.exits(t, 2)
		c.says(t, "FAIL", "host key", "the key of .* is not known: no file keeps it, by UserKnownHostsFile", q("-o UserKnownHostsFile=")+".*/.ssh/known_hosts")
		c.says(t, "FAIL", "login", "Host key verification failed", "first mend that")
	}
}

func TestAHostThatIsNotKnownAndNotRememberedIsAWarning(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	m := h.Prepare(t, testbed.MailServer(t, nil))
	for _, lines := range [][]string{{"StrictHostKeyChecking no", "UserKnownHostsFile /dev/null"}, {"StrictHostKeyChecking accept-new", "UserKnownHostsFile /dev/null"}} {
		h.Configure(t, lines...)
		c := checkOf(t, m)
		c.exits(t, 1)
		c.says(t, "WARN", "host key", "who is in between can read all mail", "StrictHostKeyChecking=ask")
	}
}

// TestAFarEndThatIsMinimailItselfIsNamed: the host is this machine.
func TestAFarEndThatIsMinimailItselfIsNamed(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	port := testbed.FreePort(t)
	c := checkOf(t, h.Prepare(t, fmt.Sprintf("localhost:%d", port)), "--forward", fmt.Sprintf("%d:%d:localhost:%d", port, testbed.FreePort(t), port))
	c.exits(t, 2)
	c.says(t, "FAIL", "far end", "that is minimail's own port", "")
}

// TestAGreetingWithoutAnEndIsBounded: a far end may send what it likes.
func TestAGreetingWithoutAnEndIsBounded(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	far := testbed.Listen(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(testbed.Patience))
		chunk := []byte(strings.Repeat("2", 1<<16))
		for sent := 0; sent < 64<<20; sent += len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	c := checkOf(t, h.Prepare(t, far))
	if len(c.out) > 16<<10 {
		t.Errorf("%d bytes are printed", len(c.out))
	}
}
