package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/testbed"
)

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestAllIsHandedOver follows it from the first word to the last client.
func TestAllIsHandedOver(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	managers, own := listener(t), listener(t)
	heirs := make(chan *Heir)
	legacy := make(chan Legacy, 1)
	pidFile, held, control := answering(t, Control{Report: func() Report { return Report{} }, Heirs: heirs, Legacy: func() Legacy { return <-legacy }})
	legacy <- Legacy{PidFile: held, Control: control, Doors: []Door{{managers, "25"}, {own, ""}}, Log: log, Env: []string{"a", "b"}}

	p, err := Precede(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID != os.Getpid() || !slices.Equal(p.Env, []string{"a", "b"}) || p.PidFile == nil || p.Taken() {
		t.Errorf("%+v", p)
	}
	if len(p.Doors) != 2 || p.Doors[0].Socket != "25" || p.Doors[1].Socket != "" || p.Doors[0].Addr().String() != managers.Addr().String() || p.Doors[1].Addr().String() != own.Addr().String() {
		t.Errorf("doors: %+v", p.Doors)
	}
	if p.Control.Addr().String() != controlSocket(pidFile) || !sameFile(p.Log, log.Name()) {
		t.Errorf("control socket %v, log %v", p.Control.Addr(), p.Log)
	}
	if err := p.GiveTo(nil); err != nil {
		t.Error(err)
	}
	p.Hurry() // is not its time yet

	if err := held.claim(2147483647); err != nil { // it is longer than ours
		t.Fatal(err)
	}
	replaced := make(chan error)
	go func() { replaced <- p.Replace([]string{own.Addr().String()}) }()
	h := <-heirs
	if h.PID != os.Getpid() || !h.Serves(own.Addr()) || h.Serves(managers.Addr()) {
		t.Errorf("heir %d serves %v", h.PID, h.serves)
	}
	if err := h.Accept(held); err != nil {
		t.Fatal(err)
	}
	if err := <-replaced; err != nil || !p.Taken() {
		t.Fatalf("%v, taken: %v", err, p.Taken())
	}
	if got := testbed.Read(t, pidFile); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("in the pid file is %q", got)
	}

	hurried, ended := make(chan int, 1), make(chan bool)
	go func() {
		n := 0
		h.Hears(func() {
			if n++; n == 1 {
				hurried <- n
			}
		})
		hurried <- n
		close(ended)
	}()
	for range 2 {
		_ = p.wire.send(item{Is: "what else"}, log) // means nothing
	}
	p.Hurry()
	<-hurried

	client, err := net.Dial("tcp", own.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	served, err := own.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = h.wire.send(item{Is: "client"}, nil) // comes without a file
	_ = h.wire.send(item{Is: "client"}, log) // comes with one that is none
	if err := h.Pass(own.Addr(), served); err != nil {
		t.Error(err)
	}
	if _, err := served.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a client that is passed on is still open here: %v", err)
	}
	h.Close()
	var at []string
	p.Clients(func(to string, c net.Conn) {
		at = append(at, to)
		_, _ = io.WriteString(c, "hello")
		c.Close()
	})
	if err := p.wire.conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the wire is open after the last client: %v", err)
	}
	if got, err := io.ReadAll(client); !slices.Equal(at, []string{own.Addr().String()}) || string(got) != "hello" || err != nil {
		t.Errorf("clients of %q; it has heard %q, %v", at, got, err)
	}
	if n := <-hurried; n != 1 {
		t.Errorf("it is hurried %d times", n)
	}
	<-ended
}

func TestWhoDoesNotTakeOverLeavesNothingOpen(t *testing.T) {
	door := listener(t)
	legacy := make(chan Legacy, 1)
	pidFile, held, control := answering(t, Control{Report: func() Report { return Report{} }, Heirs: make(chan *Heir), Legacy: func() Legacy { return <-legacy }})
	legacy <- Legacy{PidFile: held, Control: control, Doors: []Door{{door, ""}}}
	p, err := Precede(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	for _, f := range p.files {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the pid file: %v", err)
		}
	}
	for _, l := range []net.Listener{p.Control, p.Doors[0]} {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: %v", l.Addr(), err)
		}
	}
	if err := p.wire.conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the wire: %v", err)
	}
	var nobody *Predecessor
	nobody.Close()
	nobody.Hurry()
}

// TestAnHeirThatIsGoneGetsNothing: the pid in the file stays ours.
func TestAnHeirThatIsGoneGetsNothing(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	heir, ours := wires(t)
	h := &Heir{PID: 4711, wire: ours}
	heir.close()
	if err := h.Accept(p); err == nil {
		t.Error("it has accepted")
	}
	if got := testbed.Read(t, path); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("in the pid file is %q", got)
	}
	door := listener(t)
	c, err := net.Dial("tcp", door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Pass(door.Addr(), c); err == nil {
		t.Error("a client is passed to nobody")
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("and stays open: %v", err)
	}
}

func TestTheNextUserGetsTheControlSocketUnlessItIsInAPlaceOfHis(t *testing.T) {
	testbed.NeedRoot(t)
	who, err := user.Lookup(testbed.RunAs)
	if err != nil {
		t.Fatal(err)
	}
	for users, want := range map[bool]string{false: testbed.RunAs, true: "root"} {
		dir := testbed.PublicDir(t)
		if users {
			testbed.GiveTo(t, dir, testbed.RunAs)
		}
		path := filepath.Join(dir, "m.pid")
		testbed.Write(t, controlSocket(path), "")
		if err := os.Chown(controlSocket(path), 0, 1); err != nil {
			t.Fatal(err)
		}
		p := &Predecessor{Legacy: Legacy{PidFile: &PidFile{path: path}}}
		if err := p.GiveTo(who); err != nil {
			t.Error(err)
		}
		fi, err := os.Lstat(controlSocket(path))
		if err != nil || OwnerOf(fi) != testbed.UidOf(t, want) || fi.Sys().(*syscall.Stat_t).Gid != 1 {
			t.Errorf("a place of the user's: %v: %+v, %v", users, fi.Sys(), err)
		}
		if err := p.GiveTo(&user.User{Uid: "x"}); err == nil {
			t.Error("it is given to nobody")
		}
	}
}

func TestWhatHasNoDescriptorCannotBePassedOn(t *testing.T) {
	_, ours := wires(t)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := ours.duplicate(item{Is: "door"}, a); err == nil || err.Error() != "a *net.pipe cannot be passed on" {
		t.Error(err)
	}
	l := listener(t)
	l.Close()
	if err := ours.duplicate(item{Is: "door"}, l); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	p, _ := lockedPidFile(t)
	defer p.Release()
	h, err := bequeath(ours, Legacy{PidFile: p, Doors: []Door{{l, ""}}})
	if h != nil || err == nil || !strings.HasPrefix(err.Error(), "cannot pass on what it needs: ") {
		t.Errorf("%v, %v", h, err)
	}
}

func TestWhoHasGivenUpIsNoHeir(t *testing.T) {
	p, _ := lockedPidFile(t)
	defer p.Release()
	for name, does := range map[string]func(heir *wire){
		"it says something else": func(heir *wire) { _ = heir.send(item{Is: "no", PID: 7}, nil) },
		"it hangs up":            func(heir *wire) { heir.close() },
	} {
		heir, ours := wires(t)
		does(heir)
		if h, err := bequeath(ours, Legacy{PidFile: p, Control: listener(t)}); h != nil || err == nil || name != "it hangs up" && err.Error() != "it has given up, or died" {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
	heir, ours := wires(t)
	_ = heir.send(item{Is: "ready", PID: 7, Serves: []string{"a"}}, nil)
	if h, err := bequeath(ours, Legacy{PidFile: p, Control: listener(t)}); err != nil || h.PID != 7 || len(h.serves) != 1 || !h.serves["a"] {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestNobodyIsReplacedWhoHasNotLetGo(t *testing.T) {
	p, path := lockedPidFile(t)
	defer p.Release()
	theirs, ours := wires(t)
	pre := &Predecessor{PID: 7, wire: ours, Legacy: Legacy{PidFile: p}}
	_ = p.claim(2147483647)
	_ = theirs.send(item{Is: "yours"}, nil)
	if err := pre.Replace(nil); err != nil || !pre.Taken() || testbed.Read(t, path) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%v, taken: %v; in the pid file is %s", err, pre.Taken(), testbed.Read(t, path))
	}
	pre.taken = false
	theirs.close()
	err := pre.Replace(nil)
	if err == nil || !strings.HasPrefix(err.Error(), "pid 7 has not let go: ") || pre.Taken() || fail.HintOf(err) != "minimail status # tells whether it has ended, or somebody else was quicker" {
		t.Errorf("%v, hint %q, taken: %v", err, fail.HintOf(err), pre.Taken())
	}
}
