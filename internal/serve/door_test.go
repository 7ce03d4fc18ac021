package serve

import (
	"net"
	"testing"

	"minimail/forward"
	"minimail/internal/daemon"
	"minimail/internal/testbed"
)

func TestAllDoorsAreOpenOrNone(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := forward.Spec{Binds: []string{"127.0.0.1"}, Port: testbed.FreePort(t)}
	busy := forward.Spec{Binds: []string{"127.0.0.1"}, Port: taken.Addr().(*net.TCPAddr).Port}
	both := []forward.Spec{free, busy}
	for name, open := range map[string]func() ([]door, error){
		"alone":                func() ([]door, error) { return bind(both, nil) },
		"beside another":       func() ([]door, error) { return bindBeside(both, nil) },
		"a door for no --port": func() ([]door, error) { return bindBeside(both[:1], []daemon.Door{{Listener: taken, Socket: "2"}}) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: no error", name)
		}
		ls, err := forward.Listen(free.Binds, free.Port)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, l := range ls {
			l.Close()
		}
	}
}
