package forward

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// passed is a listener and the file that a service manager would have passed.
func passed(t *testing.T, name string) (port int, file *os.File) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	f := must(l.(*net.TCPListener).File())
	if name == "" {
		return l.Addr().(*net.TCPAddr).Port, f
	}
	defer f.Close()
	fd := must(dup(f))
	return l.Addr().(*net.TCPAddr).Port, os.NewFile(uintptr(fd), name)
}

func TestAPassedSocketIsTakenByThePortOrTheNameOfItsForward(t *testing.T) {
	port, byPort := passed(t, "")
	_, byName := passed(t, "2525")
	other, nobodys := passed(t, "")
	in := Inherited{byPort, byName, nobodys}
	for _, p := range []int{port, 2525} {
		ls, err := in.Take(Spec{Port: p})
		if err != nil || len(ls) != 1 {
			t.Errorf("for %d there are %d, %v", p, len(ls), err)
		}
		Close(ls)
	}
	if ls, err := in.Take(Spec{Port: 1}); len(ls) > 0 || err != nil {
		t.Errorf("for a port that was not passed: %v, %v", ls, err)
	}
	if err := in.Left(); err == nil || !strings.Contains(err.Error(), ":"+strconv.Itoa(other)+",") {
		t.Errorf("what is left: %v", err)
	}
	nobodys.Close()
	if err := (Inherited{}).Left(); err != nil {
		t.Error(err)
	}
}

func TestAPassedFileThatIsNoSocketIsNamed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := (&Inherited{r}).Take(Spec{Port: 25}); err == nil || !strings.Contains(err.Error(), strconv.Quote(r.Name())) {
		t.Error(err)
	}
}

func TestWithoutAServiceManagerNothingIsPassed(t *testing.T) {
	if in := NewInherited(); len(in) > 0 {
		t.Errorf("%d files", len(in))
	}
}
