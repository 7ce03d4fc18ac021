package check

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"minimail/internal/daemon"
	"minimail/internal/testbed"
	"minimail/privdrop"
	"minimail/tunnel/peer"
)

func TestAHomeIsWhereSSHFindsItsFiles(t *testing.T) {
	var out strings.Builder
	me := fmt.Sprintf("%s, uid %d, home DIR", daemon.UserName(), os.Getuid())
	for name, c := range map[string]struct {
		make   func(t *testing.T, home string)
		config string
		want   string
	}{
		"well": {func(t *testing.T, home string) { mkdir(t, home+"/.ssh", 0o700) }, "", "OK   user      " + me + "\nOK   ~/.ssh    nobody else can change it\n"},
		"known hosts": {func(t *testing.T, home string) {
			mkdir(t, home+"/.ssh", 0o700)
			testbed.Write(t, home+"/.ssh/known_hosts", "")
		}, "", "OK   user      " + me + "\nOK   ~/.ssh    nobody else can change it\n"},
		"known hosts of a group": {func(t *testing.T, home string) {
			mkdir(t, home+"/.ssh", 0o700)
			testbed.Write(t, home+"/.ssh/known_hosts", "")
			if err := os.Chmod(home+"/.ssh/known_hosts", 0o664); err != nil {
				t.Fatal(err)
			}
		}, "", "OK   user      " + me + "\nWARN ~/.ssh    others can write to DIR/.ssh/known_hosts (mode 0664)\n       fix: chmod 600 DIR/.ssh/known_hosts\n"},
		"no ~/.ssh":           {func(*testing.T, string) {}, "", "OK   user      " + me + "\nWARN ~/.ssh    DIR/.ssh is not there\n       fix: mkdir -m 700 DIR/.ssh\n"},
		"no ~/.ssh, a config": {func(*testing.T, string) {}, "/c", "OK   user      " + me + "\nOK   ~/.ssh    nobody else can change it\n"},
		"none": {func(t *testing.T, home string) { os.Remove(home) }, "", "WARN user      " + me + ", which is not there: ssh finds neither key nor known_hosts in it\n" +
			"       fix: minimail check --user NAME # of somebody with a home; or --ssh-config FILE that names all files\n"},
		"none, a config": {func(t *testing.T, home string) { os.Remove(home) }, "/c", "OK   user      " + me + " (not there; ssh reads /c)\n"},
		"open to all":    {func(t *testing.T, home string) { mkdir(t, home+"/.ssh", 0o777) }, "", "OK   user      " + me + "\nWARN ~/.ssh    others can change DIR/.ssh\n       fix: chmod go-w DIR/.ssh\n"},
	} {
		home := filepath.Join(t.TempDir(), "home")
		mkdir(t, home, 0o755)
		c.make(t, home)
		k := checkupOf(t, &out)
		k.files.Home, k.files.User, k.SSHConfig = home, "me", c.config
		k.checkHome()
		saysIn(t, &out, home, name, c.want)
	}
	k := checkupOf(t, &out)
	k.checkHome()
	if !strings.Contains(out.String(), "home unknown, which is not there") {
		t.Errorf("somebody without a home: %s", out.String())
	}
}

func mkdir(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(name, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestAFileThatStartWouldRefuseIsNamed(t *testing.T) {
	var out strings.Builder
	dir := t.TempDir()
	missing, there := filepath.Join(dir, "missing", "f"), filepath.Join(dir, "f")
	const no = ": no such file or directory\n       fix: mkdir -p DIR/missing # or "
	for _, c := range []struct {
		pid, log string
		named    bool
		want     string
	}{
		{there, there, true, ""},
		{missing, there, true, "FAIL files     cannot open the pid file DIR/missing/f" + no + "--pid-file another FILE\n"},
		{missing, there, false, ""},
		{there, missing, true, "FAIL files     cannot open the log DIR/missing/f" + no + "--log-file another FILE\n"},
		{dir, there, false, "FAIL files     cannot open the pid file DIR: is a directory\n       fix: # --pid-file another FILE\n"},
	} {
		k := checkupOf(t, &out)
		k.PidFile, k.LogFile, k.PidFileNamed = c.pid, c.log, c.named
		k.checkFiles(nil)
		saysIn(t, &out, dir, c.pid+" "+c.log, c.want)
	}
}

func TestASocketMustBePossibleAndSafe(t *testing.T) {
	var out strings.Builder
	dir := t.TempDir()
	mkdir(t, dir+"/own", 0o700)
	mkdir(t, dir+"/open", 0o777)
	testbed.Write(t, dir+"/own/file", "")
	l, err := net.Listen("unix", dir+"/own/left")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		"/own/s":    "OK   tunnel    DIR/own/s can be made\n",
		"/own/left": "OK   tunnel    DIR/own/left can be made\n",
		"/own/file": "FAIL tunnel    DIR/own/file is there, and is no socket\n       fix: ls -ld DIR/own/file # another name for TUNNEL, or remove it\n",
		"/none/s": "FAIL tunnel    ME cannot make a socket in DIR/none: no such file or directory\n" +
			"       fix: sudo install -d -m 700 -o ME DIR/none\n",
		"/open/s": "WARN tunnel    others can change DIR/open: they can keep mail from leaving by a socket of their own in place of DIR/open/s\n" +
			"       fix: chmod go-w DIR/open\n",
	} {
		k := checkupOf(t, &out)
		k.checkSocket(dir + path)
		saysIn(t, &out, dir, path, strings.ReplaceAll(want, "ME", daemon.UserName()))
	}
}

func TestEachForwardHasAPortAndATunnel(t *testing.T) {
	var out strings.Builder
	dir := t.TempDir()
	k := checkupOf(t, &out, "--forward", "25:1025:a:25", "--forward", "*:2526:"+dir+"/s:b:25", "--forward", "27:1027:c:25")
	k.running = peer.Minimail{PID: 9}
	held := func(at string, pid int) peer.Listener {
		l := listenerAt(at)
		l.Procs = []peer.Process{{PID: pid, Name: "nc"}}
		return l
	}
	k.listeners = []peer.Listener{held("127.0.0.1:25", 9), held("[::1]:2526", 77), held("127.0.0.1:1025", 77), held("[::1]:1025", 77), held("127.0.0.1:27", 9), held("[::1]:1027", 77)}
	k.checkPorts()
	const who = " is held by nc, pid 77, uid 0 (root)"
	saysIn(t, &out, dir, "ports", "OK   port      25 is held by minimail itself, pid 9\n"+
		"FAIL tunnel    127.0.0.1:1025"+who+"; [::1]:1025"+who+"\n       fix: sudo kill 77\n"+
		"       fix: minimail --forward 25:2025:a:25 # another port for the tunnel\n"+
		"FAIL port      [::1]:2526"+who+"\n       fix: sudo kill 77\n"+
		"       fix: minimail --forward 3526:DIR/s:b:25 # another port\n"+
		"OK   tunnel    DIR/s can be made\n"+
		"OK   port      27 is held by minimail itself, pid 9\n"+
		"WARN tunnel    [::1]:1027"+who+"; ssh will use the other address\n       fix: sudo kill 77\n"+
		"       fix: minimail --forward 27:2027:c:25 # another port for the tunnel\n")
	k.blind = os.ErrPermission
	k.checkPorts()
	says(t, &out, "blind", "WARN ports     permission denied\n       fix: lsof -nP -iTCP -sTCP:LISTEN # shows who listens\n")
}

func TestAsManyClientsAsFilesCanBeOpen(t *testing.T) {
	var out strings.Builder
	k := checkupOf(t, &out, "--max-clients", "2")
	k.checkLimit()
	says(t, &out, "few", "OK   limits    open files: enough for 2 clients at a time\n")
}

func TestWhoeverChecksSeesHisOwnPortsAndHome(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near := testbed.FreePort(t)
	k := checkupOf(t, io.Discard, "-p", filepath.Join(t.TempDir(), "pid"), "--forward", fmt.Sprintf("%d:%d:a:25", l.Addr().(*net.TCPAddr).Port, near))
	if err := k.become(nil); err != nil || k.who != nil {
		t.Errorf("%v, %v", k.who, err)
	}
	me, err := privdrop.Lookup(fmt.Sprint(os.Getuid()))
	if err != nil || k.files.Home != me.HomeDir || k.files.User != daemon.UserName() || k.files.Host != "far" {
		t.Errorf("%+v, %v", k.files, err)
	}
	if k.lookAround(); runtime.GOOS != "linux" {
		t.Skip("only Linux tells who listens")
	}
	if k.blind != nil || len(k.listeners) != 1 || k.listeners[0].At.String() != l.Addr().String() || len(k.listeners[0].Procs) != 1 || k.listeners[0].Procs[0].PID != os.Getpid() || k.running.PID != 0 {
		t.Errorf("%v, %v, %v", k.listeners, k.blind, k.running)
	}
}
