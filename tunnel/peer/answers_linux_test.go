package peer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// message is an answer of the kernel's about a socket, with padding.
func message(kind uint16, body []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(body)+3)
	binary.NativeEndian.PutUint32(b, uint32(headerSize+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&3)...)
}

// tells is a message about a socket (struct inet_diag_msg).
func tells(s socket, more ...byte) []byte {
	b := make([]byte, 72)
	b[0], b[1] = unix.AF_INET, byte(s.state)
	if s.at.Addr().Is6() {
		b[0] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(b[4:], s.at.Port())
	copy(b[8:], s.at.Addr().AsSlice())
	binary.NativeEndian.PutUint64(b[44:], s.cookie)
	binary.NativeEndian.PutUint32(b[64:], uint32(s.uid))
	binary.NativeEndian.PutUint32(b[68:], uint32(s.inode))
	return message(20, append(b, more...))
}

func refusal(errno unix.Errno) []byte {
	b := make([]byte, 20)
	binary.NativeEndian.PutUint32(b, -uint32(errno))
	return message(unix.NLMSG_ERROR, b)
}

var (
	one  = socket{netip.MustParseAddrPort("127.0.0.1:258"), 10, 2000000007, 4000000008, 1 << 63}
	two  = socket{netip.MustParseAddrPort("[fe80::102]:25"), 1, 7, 8, 9}
	done = message(unix.NLMSG_DONE, make([]byte, 4))
)

// TestAnAnswerIsReadMessageByMessage until the last one, or one that is none.
func TestAnAnswerIsReadMessageByMessage(t *testing.T) {
	tooLong := tells(one)
	tooLong[0]++
	tooShort := slices.Clone(done)
	tooShort[0] = headerSize - 1
	header := message(unix.NLMSG_DONE, nil)
	for name, c := range map[string]struct {
		b    []byte
		want []socket
		done bool
		err  error
	}{
		"nothing":            {nil, nil, false, nil},
		"half a header":      {done[:headerSize-1], nil, false, nil},
		"the end":            {done, nil, true, nil},
		"the end alone":      {header, nil, true, nil},
		"one":                {tells(one), []socket{one}, false, nil},
		"many":               {slices.Concat(tells(one), tells(two), tells(one)), []socket{one, two, one}, false, nil},
		"many, and the end":  {slices.Concat(tells(one), tells(two), done, tells(one)), []socket{one, two}, true, nil},
		"attributes":         {slices.Concat(tells(one, 1, 2, 3, 4), tells(two)), []socket{one, two}, false, nil},
		"padding":            {slices.Concat(tells(one, 1), tells(two, 1, 2), tells(one, 1, 2, 3), tells(two)), []socket{one, two, one, two}, false, nil},
		"no padding":         {tells(one, 1)[:headerSize+73], []socket{one}, false, nil},
		"a refusal":          {slices.Concat(tells(one), refusal(unix.EPERM), tells(two)), []socket{one}, true, unix.EPERM},
		"none, and the end":  {slices.Concat(tells(one), refusal(unix.ENOENT), tells(two)), []socket{one}, true, nil},
		"longer than it is":  {slices.Concat(tells(two), tooLong), nil, false, errShort},
		"shorter than it is": {slices.Concat(tells(two), tooShort), nil, false, errShort},
		"not about a socket": {slices.Concat(tells(one), message(20, make([]byte, 71))), []socket{one}, true, errShort},
	} {
		got, done, err := dumpReplies(c.b)
		if !reflect.DeepEqual(got, c.want) || done != c.done || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v, %v; want %+v, %v, %v", name, got, done, err, c.want, c.done, c.err)
		}
	}
	if _, err := diagReply(refusal(unix.EPERM)); err.Error() != "the kernel does not tell a socket's owner: operation not permitted" {
		t.Error(err)
	}
	// An answer that is only just one.
	if s, err := diagReply(refusal(unix.ENOENT)[:headerSize+4]); s != (socket{}) || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := diagReply(refusal(unix.ENOENT)[:headerSize+3]); err != errShort {
		t.Error(err)
	}
}

// TestADumpIsReadToItsEnd, in as many parts as the kernel makes of it.
func TestADumpIsReadToItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		parts [][]byte
		want  []socket
		err   error
	}{
		"in parts":  {[][]byte{slices.Concat(tells(one), tells(two)), tells(two), slices.Concat(tells(one), done)}, []socket{one, two, two, one}, nil},
		"empty":     {[][]byte{done}, nil, nil},
		"no end":    {[][]byte{tells(one)}, nil, unix.EAGAIN},
		"a refusal": {[][]byte{tells(one), refusal(unix.EPERM)}, nil, unix.EPERM},
		"garbage":   {[][]byte{tells(one), make([]byte, headerSize)}, nil, errShort},
	} {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range c.parts {
			if _, err := unix.Write(ends[0], part); err != nil {
				t.Fatal(err)
			}
		}
		got, err := dumped(ends[1])
		if !reflect.DeepEqual(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, c.want, c.err)
		}
		unix.Close(ends[0])
		unix.Close(ends[1])
	}
}

// TestAnAnswerToAnotherQuestionIsNone, and is not asked for without end.
func TestAnAnswerToAnotherQuestionIsNone(t *testing.T) {
	fd, err := diagSocket()
	if err != nil {
		t.Skip("here we may not ask: ", err)
	}
	defer unix.Close(fd)
	if tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO); err != nil || tv.Sec == 0 {
		t.Errorf("an answer that does not come is waited for: %+v, %v", tv, err)
	}
	asked := 0
	o := oracle{alter: func(question []byte) {
		asked++
		binary.NativeEndian.PutUint32(question[8:], 1<<31)
	}}
	none := netip.MustParseAddrPort("127.0.0.1:1")
	s, err := o.find(none, none)
	if s != (socket{}) || err == nil || err.Error() != "cannot ask the kernel for a socket's owner: the answer is to another question" {
		t.Errorf("%+v, %v", s, err)
	}
	if o.open || o.deaf || o.tells || asked > 5 {
		t.Errorf("asked %d times: %+v", asked, &o)
	}
	o.alter = nil
	if _, err := o.find(none, none); err != nil || !o.tells {
		t.Errorf("the next question: %v", err)
	}
	unix.Close(o.fd)
}

// TestTheTablesAreAskedUnlessAllIsSaidOrNothingCanBe: for want of descriptors they
// could not be read.
func TestTheTablesAreAskedUnlessAllIsSaidOrNothingCanBe(t *testing.T) {
	no, broken := errors.New("no"), errors.New("broken")
	for _, c := range []struct {
		err, table error
		answer     string
		want       string
	}{
		{nil, nil, "kernel's", ""},
		{no, nil, "table's", ""},
		{no, broken, "table's", "no; broken"},
		{unix.EMFILE, nil, "kernel's", "too many open files"},
		{unix.ENFILE, nil, "kernel's", "too many open files in system"},
		{unix.ENOBUFS, nil, "kernel's", "no buffer space available"},
		{unix.ENOMEM, nil, "kernel's", "cannot allocate memory"},
		{unix.EPERM, nil, "table's", ""},
	} {
		answer, err := orElse("kernel's", c.err, func() (string, error) { return "table's", c.table })
		said := ""
		if err != nil {
			said = err.Error()
		}
		if answer != c.answer || said != c.want {
			t.Errorf("%v, %v: %s, %q; want %s, %q", c.err, c.table, answer, said, c.answer, c.want)
		}
	}
	for err, want := range map[error]bool{nil: false, unix.EAFNOSUPPORT: true, unix.EPROTONOSUPPORT: true, unix.EPERM: true, unix.EACCES: true, unix.EMFILE: false} {
		if isForbidden(err) != want {
			t.Errorf("forbidden by %v: %v", err, !want)
		}
	}
	_, err := find(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("[::1]:2"))
	if err == nil || err.Error() != "127.0.0.1:1 and [::1]:2 are of two families" {
		t.Error(err)
	}
}

// TestNothingThatLooksKeepsADescriptor: a daemon looks for months.
func TestNothingThatLooksKeepsADescriptor(t *testing.T) {
	l := nearEnd(t, "tcp4")
	path := t.TempDir() + "/near"
	server := play(t, fake("server", "unix", path))
	near := dial(t, "unix", path)
	its := ProcessOf(server.pid())
	var o oracle
	misunderstood := oracle{alter: func(question []byte) { binary.NativeEndian.PutUint32(question[8:], 1<<31) }}
	at := netip.MustParseAddrPort(l.Addr().String())
	_, _ = o.find(at, at)
	defer func() {
		if o.open {
			unix.Close(o.fd)
		}
	}()
	open := func() int { return len(namesOf(t, "/proc/self/fd")) }
	for name, look := range map[string]func(){
		"a try":         func() { _ = o.try() },
		"a bad answer":  func() { _, _ = misunderstood.find(at, at) },
		"a dump":        func() { _, _ = socketsAt(int(at.Port())) },
		"a table":       func() { _, _ = findInTables(at, at) },
		"a mark":        func() { its.kill(func(string) bool { return false }) },
		"a Unix socket": func() { _ = onSocket(near, func(fd int) error { hasPeer(fd); return nil }) },
		"all processes": func() { _ = everybody() },
	} {
		before := open()
		for range 4 {
			look()
		}
		if after := open(); after >= before+4 {
			t.Errorf("%s: %d descriptors, and then %d", name, before, after)
		}
	}
}

func namesOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

func TestAProcessIsReadFromItsStat(t *testing.T) {
	const rest = " S 29 39 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 18446744073709551098 21"
	const fields = " S 29 39 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 1098"
	of := func(name string, began uint64) Process {
		return Process{PID: 7, Parent: 29, Group: 39, Name: name, Began: began, Ends: true}
	}
	none := Process{PID: 7}
	for stat, want := range map[string]Process{
		"7 (sh)" + rest:                                of("sh", 18446744073709551098),
		"7 (sh)" + fields:                              of("sh", 1098),
		"7 (a) b (c) S 1 1)" + fields:                  of("a) b (c) S 1 1", 1098),
		"(a)" + fields:                                 of("a", 1098),
		"7 ()" + fields:                                of("?", 1098),
		"7 (\x1b[1mü\xff\u00ad)" + fields:              of("?[1mü??", 1098),
		"7 (sh)" + strings.TrimSuffix(fields, " 1098"): none,
		"7 sh)" + fields:                               none,
		"7 sh" + fields:                                none,
		"7 (sh" + fields:                               none,
		"7 ) (sh" + fields:                             none,
		"":                                             none,
	} {
		if got := parseStat(7, stat); got != want {
			t.Errorf("%q: %+v, want %+v", stat, got, want)
		}
	}
}

func TestARowOfATableIsReadOrIsNone(t *testing.T) {
	row := func(column int, text string) string {
		all := strings.Fields("0: 0100007F:0019 0200007F:FFFF 0A 0:0 0:0 0 105 0 18446744073709551615")
		all[column] = text
		return strings.Join(all, " ")
	}
	const local, rem, state, uid, inode = 1, 2, 3, 7, 9
	at, remote := netip.MustParseAddrPort("127.0.0.1:25"), netip.MustParseAddrPort("127.0.0.2:65535")
	good := socket{at: at, state: 10, uid: 105, inode: 18446744073709551615}
	highest := ^uint32(0)
	with := func(change func(*socket)) socket { s := good; change(&s); return s }
	for line, want := range map[string]socket{
		row(0, "0:"):             good,
		row(0, "0:") + " 1 more": good,
		row(state, "FF"):         with(func(s *socket) { s.state = 255 }),
		row(uid, "4294967295"):   with(func(s *socket) { s.uid = int(highest) }),
		row(local, "00000000000000000000000001000000:001A"):       with(func(s *socket) { s.at = netip.MustParseAddrPort("[::1]:26") }),
		row(local, "0000000000000000FFFF00000100007F:0019"):       good,
		strings.TrimSuffix(row(0, "0:"), " 18446744073709551615"): {},
		row(local, "0100007F"):                                    {},
		row(local, "0100007F:10019"):                              {},
		row(local, "0100007FXX:0019"):                             {},
		row(local, "01007F:0019"):                                 {},
		row(local, "0100007F0100007F:0019"):                       {},
		row(rem, "0100007F:G"):                                    {},
		row(state, "1FF"):                                         {},
		row(state, "0G"):                                          {},
		row(uid, "4294967296"):                                    {},
		row(uid, "1A"):                                            {},
		row(inode, "18446744073709551616"):                        {},
		row(inode, "1A"):                                          {},
	} {
		s, r, ok := parseRow(line)
		if s != want || ok != (want != socket{}) || ok && r != remote {
			t.Errorf("%s: %+v, %s, %v", line, s, r, ok)
		}
	}
}
