package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func TestWhatIsKeptIsTakenAtOnceOrAsTheUser(t *testing.T) {
	for _, users := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "m.pid")
		k, err := newKept(settings.Settings{PidFile: path, Foreground: true, LogFile: "/nowhere/log"}, nil) // its log is stderr
		if err != nil || k.usersPid || k.usersLog {
			t.Fatalf("%+v, %v", k, err)
		}
		k.usersPid = users
		if err := k.lock(); err != nil || (k.pid == nil) != users {
			t.Errorf("the user's: %v: %v, %v", users, k.pid, err)
		}
		if err := k.open(); err != nil || (k.control == nil) != users || k.controlErr != nil {
			t.Errorf("the user's: %v: %v, %v, %v", users, k.control, err, k.controlErr)
		}
		if err := k.openAsUser(); err != nil || k.pid == nil || k.control == nil || k.controlErr != nil {
			t.Errorf("the user's: %v: %+v, %v", users, k, err)
		}
		if err := (&kept{Settings: settings.Settings{PidFile: path}}).lock(); err == nil || fail.Status(err) != fail.AlreadyRunning || err.Error() != fmt.Sprintf("already running, pid %d", os.Getpid()) {
			t.Errorf("a second one: %v", err)
		}
		k.before = new(daemon.Predecessor) // has not let go
		if k.release(); !testbed.Exists(path) {
			t.Error("what is the predecessor's is released")
		}
		k.before = nil
		k.control.Close()
		k.release()
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}

func TestWhereNothingRunsARestartBeginsAndAReloadDoesNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	again := func(word string) (*kept, error) {
		k := &kept{Settings: settings.Settings{Word: word, PidFile: path}}
		return k, k.lock()
	}
	if k, err := again("reload"); fail.Status(err) != fail.NotRunning || k.pid != nil {
		t.Errorf("reload: %v", err)
	}
	k, err := again("restart")
	if err != nil || k.pid == nil || k.before != nil {
		t.Fatalf("restart: %+v, %v", k, err)
	}
	k.release()
}

func TestTheLogAndThePidFileAreNotTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pid")
	for log, want := range map[string]string{
		path:                          "cannot open the log " + path + ": it is the pid file, or its lock or socket",
		filepath.Dir(path):            "cannot open the log " + filepath.Dir(path) + ": is a directory",
		filepath.Dir(path) + "/m.log": "<nil>",
	} {
		if _, err := newKept(settings.Settings{PidFile: path, LogFile: log}, nil); fmt.Sprint(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if k, err := newKept(settings.Settings{PidFile: filepath.Dir(path), Foreground: true}, nil); k != nil || err == nil {
		t.Errorf("%v, %v", k, err)
	}
}

// passedSocket is a socket that a service manager has bound.
func passedSocket(t *testing.T) (f *os.File, port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err = l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().(*net.TCPAddr).Port
}

func TestADoorIsTheManagersOrOurOwn(t *testing.T) {
	file, port := passedSocket(t)
	own := testbed.FreePort(t)
	forwards := []forward.Spec{{Binds: []string{"127.0.0.1"}, Port: port, Near: "a"}, {Binds: []string{"127.0.0.1"}, Port: own, Near: "b"}}
	doors, err := bind(forwards, forward.Inherited{file})
	if err != nil || len(doors) != 2 {
		t.Fatalf("%+v, %v", doors, err)
	}
	for i, want := range []int{port, own} {
		d := doors[i]
		if len(d.listeners) != 1 || d.listeners[0].Addr().String() != fmt.Sprintf("127.0.0.1:%d", want) || d.passed != (i == 0) || d.Near != forwards[i].Near {
			t.Errorf("door %d: %+v", i, d)
		}
	}
	closeDoors(doors)
	file, port = passedSocket(t)
	_, err = bind(forwards[1:], forward.Inherited{file})
	if err == nil || err.Error() != fmt.Sprintf("the service manager passed a socket at 127.0.0.1:%d, and no --forward has that PORT", port) {
		t.Error(err)
	}
	ls, err := forward.Listen(forwards[1].Binds, own)
	if err != nil {
		t.Errorf("after that our own door is open: %v", err)
	}
	forward.Close(ls)
	if ls := spares(forward.Inherited{file}); len(ls) != 1 || ls[0].Addr().String() != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("spares: %v", ls)
	} else {
		ls[0].Close()
	}
}
