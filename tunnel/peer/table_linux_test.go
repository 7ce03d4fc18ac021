package peer

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestWithoutNetlinkTheTablesTell has the other tests run where the kernel must
// not be asked (RestrictAddressFamilies, a container).
func TestWithoutNetlinkTheTablesTell(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.skip=Kernel|WithoutNetlink", "-test.v")
	cmd.Env = append(os.Environ(), "TEST_ROLE=without netlink")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestANearEndOfTheLaunchIsProved") || !strings.Contains(string(out), "--- PASS: TestWhoMayNotAsk") {
		t.Errorf("%v\n%s", err, out)
	}
}

func init() {
	roles["without netlink"] = func(args []string) int {
		if err := forbidNetlink(); err != nil {
			panic(err)
		}
		os.Unsetenv("TEST_ROLE")
		panic(unix.Exec("/proc/self/exe", append([]string{"peer.test"}, args...), os.Environ()))
	}
}

// forbidNetlink is for whom this process becomes (seccomp(2)).
func forbidNetlink() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_SOCKET},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16}, // its first argument, in a little-endian machine
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AF_NETLINK},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // exec(2) keeps what is of this thread
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	fd, err := diagSocket()
	if !errors.Is(err, unix.EAFNOSUPPORT) {
		unix.Close(fd)
		return errors.New("netlink is not forbidden")
	}
	return nil
}

// TestWhoMayNotAskDoesNotAskAgain runs without netlink.
func TestWhoMayNotAskDoesNotAskAgain(t *testing.T) {
	fd, err := diagSocket()
	if err == nil {
		unix.Close(fd)
		t.Skip("here we may ask")
	}
	none := netip.MustParseAddrPort("127.0.0.1:1")
	var o oracle
	if _, err := o.find(none, none); !isForbidden(err) || !o.deaf {
		t.Errorf("%v, %+v", err, &o)
	}
}

// TestWhereNothingTellsNobodyIsTrusted, not even we, and there is a way out.
func TestWhereNothingTellsNobodyIsTrusted(t *testing.T) {
	withKernel(t, noDiag())
	l, launch := nearEnd(t, "tcp4"), this()
	at := l.Addr().String()
	proves := func() error { return launch.listens("tcp4", at) }
	if err := proves(); err != nil {
		t.Errorf("with tables: %v", err)
	}
	before := tables
	t.Cleanup(func() { tables = before })
	tables = []string{"/nowhere/tcp", "/nowhere/tcp6"}
	err := proves()
	const wayOut = "; let TUNNEL be a Unix socket in a directory of your own"
	if !errors.Is(err, errNoDiag) || !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), wayOut) {
		t.Errorf("who listens: %v", err)
	}
	client := dial(t, "tcp4", at)
	accepted(t, l)
	if err := launch.leads(t.Context(), client, at); !errors.Is(err, errNoDiag) || !strings.HasSuffix(err.Error(), wayOut) {
		t.Errorf("where it leads: %v", err)
	}
	if Gone(client) {
		t.Error("its other end has gone")
	}
	if _, ok := Owner(client); ok {
		t.Error("its other end has an owner")
	}
}

// rows are of a little-endian machine: addresses are words in its order.
const rows = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  10: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4710 1 0000000000000000 100 0 0 10 0
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:0019 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000001000000:0401 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1
   3: 0000000000000000FFFF00000100007F:0402 0000000000000000FFFF00000100007F:A1B2 01 00000000:00000000 00:00000000 00000000     7        0 4714 1
   4: 00000000000000000000000000000000:0403 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4715 1
   5: 00000000:0403 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 4716 1 0000000000000000 100 0 0 10 0
   6: garbage
   7: 0100007F:0403 0100007F:A1B2 0Z 00000000:00000000 00:00000000 00000000     0        0 4717 1
   8: 0100007F:10403 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 4718 1
   9: 00000000000000000000000000000000:0404 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 4294967294        0 4719 1
`

func TestSocketsAreReadFromTheKernelsTable(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("a big-endian machine's table is another one")
	}
	before := tables
	t.Cleanup(func() { tables = before })
	file := t.TempDir() + "/tcp"
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	tables = []string{file, "/nowhere/tcp6"} // a machine without IPv6
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		local, remote string // remote "": who listens
		inode         uint64
	}{
		{"127.0.0.1:25", "", 4711},
		{"127.0.0.2:25", "", 4710},
		{"127.0.0.1:25", "127.0.0.1:41394", 4712},
		{"127.0.0.1:25", "127.0.0.1:41395", 0},
		{"[::1]:1025", "", 4713},
		{"127.0.0.1:1025", "", 0},
		{"127.0.0.1:1026", "127.0.0.1:41394", 4714},
		{"127.0.0.1:1027", "", 4716}, // of the same family
		{"[::1]:1027", "", 4715},
		{"127.0.0.1:1028", "", 4719}, // if nobody else is there
	} {
		s, err := listenerInTables(at(c.local))
		if c.remote != "" {
			s, err = findInTables(at(c.local), at(c.remote))
		}
		if err != nil || s.inode != c.inode || s.inode == 4719 && uint32(s.uid) != 4294967294 {
			t.Errorf("%s, %s: %+v, %v; want %d", c.local, c.remote, s, err, c.inode)
		}
	}
	var inodes []uint64
	_, _ = inTables(func(s socket, _ netip.AddrPort) bool { inodes = append(inodes, s.inode); return false })
	if want := []uint64{4710, 4711, 4712, 4713, 4714, 4715, 4716, 4719}; !slices.Equal(inodes, want) {
		t.Errorf("%v, want %v", inodes, want)
	}
}

func FuzzTableRow(f *testing.F) {
	for row := range strings.Lines(rows) {
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row string) {
		s, remote, ok := parseRow(row)
		if ok && (!s.at.IsValid() || !remote.IsValid() || s.uid < 0 || s.state < 0) || !ok && s != (socket{}) {
			t.Errorf("%+v, %s, %v", s, remote, ok)
		}
	})
}

func FuzzNetlinkReply(f *testing.F) {
	f.Add(make([]byte, replySize))
	f.Add(diagRequest(netip.MustParseAddrPort("[::1]:25"), nobody(false)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := diagReply(b); err != nil && s != (socket{}) {
			t.Errorf("%+v, %v", s, err)
		}
		_, _, _ = dumpReplies(b)
	})
}

func FuzzStat(f *testing.F) {
	f.Add("1 (a) S 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21")
	f.Add("1 (a) b) S 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21")
	f.Fuzz(func(t *testing.T, stat string) {
		if p := parseStat(7, stat); p.PID != 7 || p.Name != printable(p.Name) && p.Name != "" {
			t.Errorf("%+v", p)
		}
	})
}
