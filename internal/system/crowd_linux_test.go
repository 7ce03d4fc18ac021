package system

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// holder holds 200 connections, and says when it has them.
const holder = `$| = 1;
my @held = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]") or die $! } 1..200;
print "held\n";
<STDIN>`

func TestOneUserCannotKeepAllPlaces(t *testing.T) {
	t.Parallel()
	testbed.NeedProgram(t, "perl", "setpriv")
	h := testbed.NewHost(t)
	m := h.Minimail(t, testbed.MailServer(t, nil), "--max-clients", "32")
	uid := strconv.Itoa(testbed.UidOf(t, testbed.Intruder))
	cmd := exec.Command("setpriv", "--reuid", uid, "--clear-groups", "perl", "-MIO::Socket::INET", "-e", holder, strconv.Itoa(m.Port))
	var said testbed.Words
	cmd.Stdout, cmd.Stderr = &said, &said
	stay, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stay.Close(); _ = cmd.Wait() })
	said.Wait(t, "held")
	testbed.Eventually(t, "he has what he can have", func() bool {
		said := testbed.Run(t, testbed.Program, "status", "--settings", os.DevNull, "-p", m.Pid)
		return strings.Contains(said, " 30 now, 170 waiting;")
	})
	m.Greets(t)
}
