package peer

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// strangers is a pid that no process has, and a uid that no user has.
const strangers = 2147483640

func TestAListenerIsToldWithAllThatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort("127.0.0.1:25")
	procs := []Process{{PID: 7, Name: "exim4"}, {PID: 8, Name: "child"}}
	for want, l := range map[string]Listener{
		"127.0.0.1:25 is held by uid 2147483640":                                         {At: at, UID: strangers},
		"127.0.0.1:25 is held by exim4, pid 7, uid 2147483640":                           {At: at, UID: strangers, Procs: procs},
		"127.0.0.1:25 is held by exim4, pid 7, uid 2147483640, and nobody listens there": {At: at, UID: strangers, Procs: procs[:1], Deaf: true},
		"127.0.0.1:25 is held by somebody of whom the kernel does not tell":              {At: at, UID: Unknown},
	} {
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestWhoKeepsOthersFromAPortIsTold for each of those who have it, or another one.
func TestWhoKeepsOthersFromAPortIsTold(t *testing.T) {
	const address = "127.0.83.1" // where no connection has got a port of its own
	listen := func() (netip.AddrPort, net.Listener) {
		l, err := net.Listen("tcp4", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Addr().(*net.TCPAddr).AddrPort(), l
	}
	free, l := listen()
	l.Close()
	taken, l := listen()
	defer l.Close()
	ours := []Process{ProcessOf(os.Getpid())}
	theirs := []Process{{PID: strangers, Name: "nc"}}
	these := func(all ...Listener) []Listener { return all }
	self := Minimail{PID: os.Getpid()}
	unknown := Listener{At: taken, UID: Unknown, Deaf: true}
	there := Listener{At: taken, UID: strangers, Procs: theirs}
	deaf := Listener{At: taken, UID: strangers, Procs: theirs, Deaf: true}
	deafAtFree := Listener{At: free, UID: strangers, Procs: theirs, Deaf: true}
	itsOwn := Listener{At: taken, UID: os.Getuid(), Procs: ours}
	notSeen := Listener{At: taken, UID: os.Getuid()}
	for name, c := range map[string]struct {
		all      []Listener
		near     netip.AddrPort
		minimail Minimail
		others   []Listener
		hidden   []Listener
		itself   bool
	}{
		"nobody":                               {nil, free, Minimail{}, nil, nil, false},
		"nobody, once more":                    {nil, free, Minimail{}, nil, nil, false},
		"somebody of whom nobody tells":        {nil, taken, Minimail{}, these(unknown), nil, false},
		"nobody, while minimail runs":          {nil, taken, self, nil, nil, false},
		"who listens":                          {these(there), taken, Minimail{}, these(there), nil, false},
		"who listens, while minimail runs":     {these(there), taken, self, these(there), nil, false},
		"who does not listen":                  {these(deaf), taken, Minimail{}, these(deaf), nil, false},
		"who is not in the way":                {these(deafAtFree), free, Minimail{}, nil, nil, false},
		"who could be, while minimail runs":    {these(deafAtFree), free, self, these(deafAtFree), nil, false},
		"who has another port":                 {these(Listener{At: netip.AddrPortFrom(free.Addr(), free.Port()+1), Procs: theirs}), free, Minimail{}, nil, nil, false},
		"who has another address":              {these(Listener{At: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), free.Port()), Procs: theirs}), free, Minimail{}, nil, nil, false},
		"minimail":                             {these(itsOwn), taken, self, nil, nil, true},
		"minimail, and somebody":               {these(itsOwn, there), taken, self, these(there), nil, true},
		"it may be minimail":                   {these(notSeen), taken, self, nil, these(notSeen), false},
		"it is not minimail's, for it says so": {these(notSeen), taken, Minimail{os.Getpid(), []string{"127.0.0.1:1"}}, these(notSeen), nil, false},
		"it is minimail's, for it says so":     {these(notSeen), taken, Minimail{os.Getpid(), []string{taken.String()}}, nil, nil, true},
	} {
		others, hidden, itself := Holders(c.all, address, int(c.near.Port()), c.minimail)
		if !reflect.DeepEqual(others, c.others) || !reflect.DeepEqual(hidden, c.hidden) || itself != c.itself {
			t.Errorf("%s: %v, %v, %v; want %v, %v, %v", name, others, hidden, itself, c.others, c.hidden, c.itself)
		}
	}
	// An address that is none of ours is not in use.
	if others, _, _ := Holders(nil, "192.0.2.1", int(taken.Port()), Minimail{}); others != nil {
		t.Errorf("%v", others)
	}
}

func TestAListenerIsMinimailsIfOneOfItsProcessesIs(t *testing.T) {
	child := play(t, fake("server", "tcp", "127.0.0.1:0"))
	other := Process{PID: strangers, Name: "nc"}
	for name, c := range map[string]struct {
		procs []Process
		pid   int
		want  bool
	}{
		"itself":               {[]Process{other, ProcessOf(os.Getpid())}, os.Getpid(), true},
		"its child":            {[]Process{other, ProcessOf(child.pid())}, os.Getpid(), true},
		"another":              {[]Process{other}, os.Getpid(), false},
		"nobody runs":          {[]Process{{PID: 0, Parent: 0, Name: "kernel"}}, 0, false},
		"another minimail's":   {[]Process{ProcessOf(child.pid())}, strangers, false},
		"its child's parent's": {[]Process{ProcessOf(os.Getpid())}, child.pid(), false},
	} {
		if got := (Listener{Procs: c.procs}).isOf(Minimail{PID: c.pid}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAListenerThatWeMayNotLookIntoMayBeMinimails if it is of the same user's, or
// root's.
func TestAListenerThatWeMayNotLookIntoMayBeMinimails(t *testing.T) {
	us := os.Getpid()
	if uid, known := ownerOf(us); uid != os.Getuid() || !known {
		t.Errorf("we are uid %d, %v", uid, known)
	}
	if _, known := ownerOf(strangers); known {
		t.Error("nobody's uid is known")
	}
	user := play(t, as(t, intruder, fake("server", "tcp", "127.0.0.1:0"))) // a minimail that is not root
	uid := uidOf(t, intruder)
	for name, c := range map[string]struct {
		l    Listener
		m    Minimail
		want bool
	}{
		"its user's":         {Listener{UID: uid}, Minimail{PID: user.pid()}, true},
		"root's":             {Listener{UID: 0}, Minimail{PID: user.pid()}, true},
		"another's":          {Listener{UID: uid + 1}, Minimail{PID: user.pid()}, false},
		"nobody knows":       {Listener{UID: uid}, Minimail{PID: strangers}, true},
		"a process is known": {Listener{UID: uid, Procs: []Process{{PID: 7}}}, Minimail{PID: user.pid()}, false},
		"minimail has told":  {Listener{UID: uid}, Minimail{user.pid(), []string{"127.0.0.1:25"}}, false},
		"no minimail runs":   {Listener{UID: 0}, Minimail{}, false},
	} {
		if got := c.l.mayBeOf(c.m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWhoListensComesBeforeWhoHasOnlyBound, and who is connected is told only if
// there is nobody else.
func TestWhoListensComesBeforeWhoHasOnlyBound(t *testing.T) {
	l := nearEnd(t, "tcp4")
	s, err := listenerAt(plain(l.Addr().(*net.TCPAddr)))
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("127.0.0.1:25")
	bound := socket{at: at, state: tcpClosed, uid: 7, inode: 1}
	connected := socket{at: at, state: tcpEstablished, uid: 8, inode: 2}
	over := socket{at: at, state: unix.BPF_TCP_TIME_WAIT}
	us := ProcessOf(os.Getpid())
	for name, c := range map[string]struct {
		sockets []socket
		want    []Listener
	}{
		"all": {[]socket{connected, bound, s, over}, []Listener{
			{At: s.at, UID: os.Getuid(), Inode: s.inode, Procs: []Process{us}},
			{At: at, UID: 7, Inode: 1, Deaf: true}}},
		"a connection alone": {[]socket{over, connected}, []Listener{{At: at, UID: 8, Inode: 2, Deaf: true}}},
		"none":               {[]socket{over}, nil},
	} {
		if got, err := listeners(c.sockets); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// TestThoseAtAPortAreTold, and nobody else, be it that he has only bound one.
func TestThoseAtAPortAreTold(t *testing.T) {
	l := nearEnd(t, "tcp4")
	at := plain(l.Addr().(*net.TCPAddr))
	dial(t, "tcp4", at.String())
	accepted(t, l)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := socketsAt(int(at.Port()))
	states := map[int]int{}
	for _, s := range all {
		if s.at != at || s.uid != os.Getuid() {
			t.Errorf("%+v", s)
		}
		states[s.state]++
	}
	if want := map[int]int{tcpListen: 1, tcpEstablished: 1}; err != nil || !reflect.DeepEqual(states, want) {
		t.Errorf("%v, %v; want %v", states, err, want)
	}
}

// TestAProcessHoldsASocketOnce, however many descriptors it has of it.
func TestAProcessHoldsASocketOnce(t *testing.T) {
	l := nearEnd(t, "tcp4")
	again, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	s, err := listenerAt(plain(l.Addr().(*net.TCPAddr)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64][]Process{s.inode: {ProcessOf(os.Getpid())}}
	if got, err := holders([]int{os.Getpid(), strangers}, s.inode, 1); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestWhoHasAPortIsNotKnownWhereNothingTells(t *testing.T) {
	before := tables
	t.Cleanup(func() { tables = before })
	tables = []string{"/nowhere/tcp"}
	l := nearEnd(t, "tcp4")
	l.Close()
	all, err := ListenersAt([]int{l.Addr().(*net.TCPAddr).Port})
	if all != nil || !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, errNoDiag) && !isForbidden(err) || !strings.HasPrefix(err.Error(), "cannot see who listens: ") {
		t.Errorf("%v, %v", all, err)
	}
}
