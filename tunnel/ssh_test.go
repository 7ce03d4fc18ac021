package tunnel

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// soon is when a test gives up waiting for what must happen.
const soon = time.Minute

// A running is one launch of the real command.
type running struct {
	*launch
	log *logBook
	err chan error
}

// command launches cfg.Argv as Run would.
func command(t *testing.T, cfg Config) *running {
	t.Helper()
	return commandToGo(t, cfg, soon)
}

// commandToGo is one that is killed if it has not gone so long after it was told to.
func commandToGo(t *testing.T, cfg Config, stopTimeout time.Duration) *running {
	t.Helper()
	r := &running{log: new(logBook), err: make(chan error, 1)}
	cfg.Log, cfg.Listen = zerolog.New(r.log), hear
	tunnel := New(cfg)
	tunnel.stopTimeout = stopTimeout
	r.launch = newLaunch(cfg.Command())
	go func() {
		defer close(r.ended)
		r.err <- tunnel.ssh(r.life, r.launch)
	}()
	t.Cleanup(func() {
		r.stop(nil)
		<-r.ended
	})
	return r
}

// end waits for the end of the command.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.err:
		return err
	case <-time.After(soon):
		t.Fatalf("the command does not end; log: %s", r.log)
		return nil
	}
}

// ends waits for the end of the command and checks its reason.
func (r *running) ends(t *testing.T, want string) {
	t.Helper()
	if err := r.end(t); err == nil || err.Error() != want {
		t.Errorf("ended because of %v, want %q", err, want)
	}
}

// pid is that of the command, once it has been launched.
func (r *running) pid(t *testing.T) int {
	t.Helper()
	var line struct{ Pid int }
	if err := json.Unmarshal([]byte(r.log.find(t, "launched ssh")), &line); err != nil {
		t.Fatal(err)
	}
	return line.Pid
}

// isGone fails if there is still a process of that pid.
func isGone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("pid %d is still there: %v", pid, err)
	}
}

func TestTheReasonOfAnEndIsSSHsLastLine(t *testing.T) {
	for _, test := range []struct {
		name string
		argv []string
		want string
	}{
		{"with an error", fake("speaker", "255", "something first", "ssh: connect to host far port 22: Connection refused"), "ssh: connect to host far port 22: Connection refused"},
		{"with success", fake("speaker", "0", "Connection to far closed by remote host."), "Connection to far closed by remote host"},
		{"after chatter", fake("speaker", "255", "Timeout, server far not responding.", "Transferred: sent 1, received 2 bytes, in 0.1 seconds", "Bytes per second: sent 1.0, received 2.0"), "Timeout, server far not responding"},
		{"with only chatter", fake("speaker", "1", "debug1: nothing to see"), "ssh ended without a word: exit status 1"},
		{"without a word", fake("speaker", "255"), "ssh ended without a word: exit status 255"},
		{"without a word, with success", fake("speaker", "0"), "ssh ended without a word"},
		{"by a signal", fake("killed"), "ssh ended without a word: signal: killed"},
		{"after a flood", fake("flooder"), "after the flood"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := command(t, Config{Command: runs(test.argv)})
			r.ends(t, test.want)
			isGone(t, r.pid(t))
		})
	}
}

func TestAProgramThatCannotBeRunIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no-such-ssh")
	err := command(t, Config{Command: runs([]string{missing})}).end(t)
	if err == nil || !strings.HasPrefix(err.Error(), "cannot run "+missing+": ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	err = command(t, Config{Command: runs([]string{t.TempDir()})}).end(t)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("a directory: got %v", err)
	}
	if f := failureOf(err); !f.hopeless || f.kind != Unseen {
		t.Errorf("%v is hopeless: %t, and %q", err, f.hopeless, f.kind)
	}
}

func TestSSHThatIsToldToGoHasNoReason(t *testing.T) {
	r := command(t, Config{Command: runs(fake("speaker", "stay", "a word"))})
	r.log.find(t, "a word")
	pid := r.pid(t)
	r.stop(nil)
	if err := r.end(t); err != nil {
		t.Errorf("got %v", err)
	}
	isGone(t, pid)
	r.log.find(t, "killing ssh")
}

func TestSSHThatIsDeafToTermIsKilled(t *testing.T) {
	t.Parallel()
	r := commandToGo(t, Config{Command: runs(fake("deaf"))}, 100*time.Millisecond)
	r.log.find(t, `"deaf"`)
	pid := r.pid(t)
	r.stop(nil)
	if err := r.end(t); err != nil {
		t.Errorf("got %v", err)
	}
	isGone(t, pid)
}

// dialSoon connects to a program that is just about to listen.
func dialSoon(t *testing.T, network, address string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial(network, address)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(soon))
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens at %s: %v", address, err)
		}
	}
}

func TestAFloodOfWordsIsLoggedInPart(t *testing.T) {
	r := command(t, Config{Command: runs(append(fake("speaker", "1"), slices.Repeat([]string{"blah"}, 10*maxLines)...))})
	r.ends(t, "blah")
	// The lines may come within one second, or a few.
	if n := r.log.count(`"stderr":"blah"`); n < maxLines || n >= 10*maxLines {
		t.Errorf("%d of %d lines were logged", n, 10*maxLines)
	}
	var last struct{ Lines int }
	if err := json.Unmarshal([]byte(r.log.find(t, "ssh said more than is logged")), &last); err != nil {
		t.Fatal(err)
	}
	if n := last.Lines + r.log.count(`"stderr":"blah"`); n != 10*maxLines {
		t.Errorf("%d lines were logged or counted, want %d", n, 10*maxLines)
	}
}

// Nobody but ssh has the other ends of its pipes open.
func TestTheEndOfSSHsWordsIsSeenBeforeThatOfSSH(t *testing.T) {
	const floods = "i=0; while [ $i -lt 2000 ]; do echo blah; i=$((i+1)); done >&2; exec sleep 60 >&- 2>&-"
	r := command(t, Config{Command: runs([]string{"/bin/sh", "-c", floods})})
	r.log.find(t, "ssh said more than is logged") // which is known at their end
	select {
	case err := <-r.err:
		t.Errorf("ssh has ended, too: %v", err)
	default:
	}
}

func TestANearEndThatSSHCannotListenOnEndsTheLaunch(t *testing.T) {
	for _, test := range []struct {
		end   string
		lines []string
		want  string
	}{
		{"1025", []string{"bind [127.0.0.1]:1025: Address already in use", "channel_setup_fwd_listener_tcpip: cannot listen to port: 1025", "Could not request local forwarding."},
			"ssh cannot listen on 1025, its near end here: bind [127.0.0.1]:1025: Address already in use"},
		{"/run/x/near", []string{"unix_listener: cannot bind to path /run/x/near: Address already in use", "Could not request local forwarding."},
			"ssh cannot listen on /run/x/near, its near end here: unix_listener: cannot bind to path /run/x/near: Address already in use"},
	} {
		t.Run(strings.Trim(test.end, "/"), func(t *testing.T) {
			t.Parallel()
			r := command(t, Config{Command: runs(fake("speaker", append([]string{"stay"}, test.lines...)...)), NearEnds: []string{"7", test.end}})
			r.ends(t, test.want)
			isGone(t, r.pid(t))
		})
	}
}

func TestSSHGetsOnlyWhatItIsGiven(t *testing.T) {
	t.Setenv("SECRET", "of ours")
	l, err := net.Listen("tcp", "127.0.0.1:0") // that has to stay ours, too
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := []string{"PATH=/bin", "ODD=a=b ü\n"}
	file := filepath.Join(t.TempDir(), "sight")
	r := command(t, Config{Command: runs(fake("looker", file), env...)})
	r.ends(t, "seen")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s sight
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Env, env) {
		t.Errorf("environment %q, want %q", s.Env, env)
	}
	if !slices.Equal(s.Args, fake("looker", file)) {
		t.Errorf("arguments %q", s.Args)
	}
	for fd := range s.Descriptors {
		if n, _ := strconv.Atoi(fd); n > 2 && !inherited(n) {
			t.Errorf("descriptor %s: %s", fd, s.Descriptors[fd])
		}
	}
	if s.Descriptors["0"] != os.DevNull || !strings.HasPrefix(s.Descriptors["1"], "pipe:") || !strings.HasPrefix(s.Descriptors["2"], "pipe:") || s.Descriptors["1"] == s.Descriptors["2"] {
		t.Errorf("descriptors %v", s.Descriptors)
	}
	ours, _ := unix.Getsid(0)
	if s.Session != s.Pid || s.Group != s.Pid || s.Session == ours {
		t.Errorf("pid %d, session %d, group %d; our session is %d", s.Pid, s.Session, s.Group, ours)
	}
}

// inherited reports whether whoever started the tests has left that descriptor
// open for all that comes after.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

func TestNoEnvironmentMeansOurs(t *testing.T) {
	t.Setenv("MARK", "ours")
	file := filepath.Join(t.TempDir(), "sight")
	command(t, Config{Command: runs(fake("looker", file))}).ends(t, "seen")
	text, _ := os.ReadFile(file)
	if !bytes.Contains(text, []byte(`"MARK=ours"`)) {
		t.Errorf("got %s", text)
	}
}

func TestTheCommandIsLoggedAsOneWouldTypeIt(t *testing.T) {
	for want, argv := range map[string][]string{
		`ssh -N -o A=b -- me@far`: {"ssh", "-N", "-o", "A=b", "--", "me@far"},
		`ssh '' 'a b' '$(x)'`:     {"ssh", "", "a b", "$(x)"},
		`'it'\''s'`:               {"it's"},
	} {
		if got := shellWords(argv); got != want {
			t.Errorf("%q: got %s, want %s", argv, got, want)
		}
	}
}
