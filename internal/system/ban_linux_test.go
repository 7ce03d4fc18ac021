package system

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// What a host may ban for, in the log of a real sshd. TEST_LONG makes it ten
// minutes; otherwise it is over when the pause has become long.
func TestAHostSeesOnlyAFewFailingLoginsWhateverClientsDo(t *testing.T) {
	t.Parallel()
	cut := []string{"AuthorizedKeysFile none", "AuthorizedKeysCommandUser root", `AuthorizedKeysCommand /bin/sh -c "kill -9 $PPID"`}
	helper := "bash -c 'exec 3<>/dev/tcp/127.0.0.1/%PORT% 4<&0; cat <&4 >&3 & exec cat <&3'" // it ends when the host hangs up
	for name, c := range map[string]struct {
		sshd, ssh []string
		prepare   func(h *testbed.Host)
		most      int
	}{
		"the key is refused":          {sshd: []string{"AuthorizedKeysFile none"}, most: 2},
		"the user is not let in":      {sshd: []string{"AllowUsers nobody-at-all"}, most: 2},
		"the user is not there":       {ssh: []string{"User no-such-user"}, most: 2},
		"a second factor":             {sshd: []string{"AuthenticationMethods publickey,password", "PasswordAuthentication yes"}, most: 2},
		"only passwords":              {sshd: []string{"PubkeyAuthentication no", "PasswordAuthentication yes"}, most: 2},
		"too many keys":               {sshd: []string{"AuthorizedKeysFile none", "MaxAuthTries 1"}, ssh: []string{"IdentityFile %DIR%/otherkey"}, most: 2},
		"the host is not known":       {prepare: func(h *testbed.Host) { testbed.Write(t, h.Path("known_hosts"), "") }, most: 2},
		"nothing in common":           {sshd: []string{"KexAlgorithms curve25519-sha256"}, ssh: []string{"KexAlgorithms ecdh-sha2-nistp256"}, most: 2},
		"the login is cut":            {sshd: cut, most: 2},
		"sshd is frozen, and goes on": {ssh: []string{"ConnectTimeout 1"}, prepare: func(h *testbed.Host) { freeze(t, h) }, most: 4},
		"it is cut behind a helper":   {ssh: []string{"ProxyCommand " + helper}, sshd: cut, most: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t, append(c.sshd, "LogLevel VERBOSE")...)
			h.Configure(t, testbed.Expand(c.ssh, "%DIR%", h.Dir, "%PORT%", fmt.Sprint(h.Port))...)
			if c.prepare != nil {
				c.prepare(h)
			}
			m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "2s")
			hammer(t, m)
			signalAll(h.Processes(), syscall.SIGCONT)
			seen := func() int { return h.Log.Count(`(?m)^Connection from 127\.0\.0\.1 port`) }
			testbed.Eventually(t, "sshd has seen what was tried", func() bool { return seen() >= m.Log.Count("launched ssh") })
			if n := seen(); n > c.most {
				t.Errorf("sshd saw %d connections, want at most %d:\n%s", n, c.most, h.Log)
			}
		})
	}
}

func freeze(t *testing.T, h *testbed.Host) {
	t.Helper()
	signalAll(h.Processes(), syscall.SIGSTOP)
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}

// hammer has clients come, four at a time, until the pause is one that they do not
// wait through, and some more.
func hammer(t *testing.T, m *testbed.Minimail) {
	t.Helper()
	began, most := time.Now(), time.Duration(testbed.Long(0, 10))*time.Minute
	testbed.Eventually(t, "the pause is long", func() bool { knocks(t, m); return m.Log.Has(`back_off=(1m|[2-9]m|1\dm)`) })
	for more := 0; more < 5 || time.Since(began) < most; more++ {
		time.Sleep(50 * time.Millisecond) // the others have a processor, too
		knocks(t, m)
	}
}

// knocks are of four clients, all of which are refused.
func knocks(t *testing.T, m *testbed.Minimail) {
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			if got, err := greeting(m); err != nil || !strings.HasPrefix(got, "421 ") {
				t.Errorf("got %q, %v; want a 421", got, err)
			}
		})
	}
	clients.Wait()
}
