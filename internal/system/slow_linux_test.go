package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
	"minimail/internal/testbed/link"
)

// A large mail on a slow uplink: no probe is answered before the mail has gone,
// and yet the link is alive. Keepalives of 5 s, three of them, would end it.
func TestALargeMailOverASlowUplinkArrives(t *testing.T) {
	t.Parallel()
	const size = 120 << 10
	l, h, _ := testbed.NewLongHost(t, link.Conditions{})
	var far string
	_ = l.Far.Do(func() error {
		far = testbed.Listen(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "220 far.test\r\n")
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintf(c, "250 %d bytes\r\n", n)
		})
		return nil
	})
	_ = l.Near.Do(func() error {
		m := h.Minimail(t, far, "--wait", "60s")
		c := m.Dial(t)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(3 * time.Minute))
		r := bufio.NewReader(c)
		testbed.ReadLine(t, r)
		l.Near.Set(link.Conditions{Rate: 32_000, Queue: 256 << 10})
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Errorf("the mail was cut: %v", err)
		}
		_ = c.CloseWrite()
		if got := testbed.ReadLine(t, r); got != fmt.Sprintf("250 %d bytes", size) {
			t.Errorf("got %q; log: %s", got, m.Log)
		}
		l.Near.Set(link.Conditions{})
		return nil
	})
}

// A login with a step that takes longer than a client waits: the client is told
// so, and the next one is served by the same login.
func TestALoginWithASlowStepServesTheNextClient(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.RestartWith(t, "AuthorizedKeysFile "+h.Path("key.pub"),
		"AuthorizedKeysFile none\nAuthorizedKeysCommandUser root\nAuthorizedKeysCommand /bin/sh -c \"sleep 17; cat "+h.Path("key.pub")+"\"")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "11s", "--idle", "1h") // no client's end falls on one of the login's
	clients, got := 0, ""
	for ; clients < 8 && !strings.HasPrefix(got, "220 "); clients++ { // sshd asks more than once
		got = m.Greeting(t)
		if strings.HasPrefix(got, "421 ") && (!strings.Contains(got, "ssh is still trying after ") || !strings.Contains(got, "with a longer --wait you may get through")) {
			t.Fatalf("client %d got %q", clients, got)
		}
	}
	if clients < 2 || clients == 8 {
		t.Errorf("client %d got %q", clients, got)
	}
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("%d launches", n)
	}
}

// What comes before the login may take longer than ours would let it, if the user
// says so in ssh_config.
func TestTheUsersConnectTimeoutIsHowLongAProxyCommandMayTake(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	h.Configure(t, "ConnectTimeout 60", fmt.Sprintf("ProxyCommand sh -c 'sleep 11; exec nc 127.0.0.1 %d'", h.Port))
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "60s")
	m.Greets(t)
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("%d launches, want 1", n)
	}
}

// A dead address before the good one: ssh is still at it when the client has left,
// and the countdown does not begin before the login.
func TestALaunchThatTriesADeadAddressFirstServesTheNextClient(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	deadAt(t, h.Port)
	testbed.AddHost(t, "two.test", "::1", "127.0.0.1")
	h.Configure(t, "HostName two.test", fmt.Sprintf("HostKeyAlias [127.0.0.1]:%d", h.Port), "ConnectTimeout 6")
	m := h.Minimail(t, testbed.MailServer(t, nil), "--wait", "1s", "--idle", "3s")
	m.Refuses(t, "ssh is still trying after .*; with a longer --wait you may get through")
	m.Log.Wait(t, "(?s)Authenticated to.*the host has let ssh in, and nobody waits any more: countdown started")
	if n := m.Log.Count("launched ssh"); n != 1 {
		t.Errorf("%d launches, want 1", n)
	}
	m.Serves(t)
}

// What ssh makes of ssh_config is asked while nobody waits: at start, and when there
// has been no tunnel for a while.
func TestNoClientWaitsForWhatSSHMakesOfItsSettings(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	hangs := filepath.Join(testbed.PublicDir(t), "hangs")
	ssh := testbed.Script(t, fmt.Sprintf("case \" $* \" in *' -G '*) [ ! -e %s ] || exec sleep 30 ;; esac\nexec ssh \"$@\"\n", hangs))
	m := h.Minimail(t, testbed.MailServer(t, nil), "--ssh", ssh, "--wait", "9s") // less than it may take to answer
	testbed.Write(t, hangs, "")
	at := 0 // a busy machine's login may take as long
	for tries := 0; at < 2 && tries < 5; tries++ {
		if strings.HasPrefix(m.Greeting(t), "220 ") {
			at++
		}
		m.Down(t)
	}
	if at < 2 {
		t.Errorf("%d clients in time, want 2", at)
	}
}

// deadAt has nothing answer at [::1]:port: the queue there is full.
func deadAt(t *testing.T, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { syscall.Close(fd) })
		err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}), syscall.Listen(fd, 0))
	}
	if err != nil {
		t.Skip("needs ::1: ", err)
	}
	c, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

// While a client waits, a connection that has died is replaced.
func TestADeadLinkIsReplacedWithinAClientsWait(t *testing.T) {
	t.Parallel()
	l, h, far := testbed.NewLongHost(t, link.Conditions{Delay: 15 * time.Millisecond})
	_ = l.Near.Do(func() error {
		m := h.Minimail(t, far, "--idle", "1h")
		m.Greets(t)
		m.Log.Wait(t, "client served")
		l.Set(link.Conditions{Hole: true})
		end := time.AfterFunc(9*time.Second, func() { l.Set(link.Conditions{Delay: 15 * time.Millisecond}) })
		defer end.Stop()
		m.Greets(t)
		m.Log.Wait(t, "(?s)the connection to the host is dead.*nothing has come from the host for.*launched ssh.*the tunnel answers")
		return nil
	})
}
