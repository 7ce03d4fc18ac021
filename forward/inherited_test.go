package forward

import (
	"fmt"
	"net"
	"os"
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
	before := openFiles()
	for _, p := range []int{port, 2525} {
		ls, err := in.Take(Spec{Port: p})
		if err != nil || len(ls) != 1 {
			t.Errorf("for %d there are %d, %v", p, len(ls), err)
		}
		if n := openFiles(); n != before {
			t.Errorf("%d descriptors are open, %d were before", n, before)
		}
		Close(ls)
		before--
	}
	if ls, err := in.Take(Spec{Port: 1}); len(ls) > 0 || err != nil {
		t.Errorf("for a port that was not passed: %v, %v", ls, err)
	}
	if err, want := in.Left(), fmt.Sprintf("the service manager passed a socket at 127.0.0.1:%d, and no --forward has that PORT", other); err == nil || err.Error() != want {
		t.Errorf("what is left: %v", err)
	}
	if n := openFiles(); n != before {
		t.Errorf("%d descriptors are open, %d were before", n, before)
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
	port, socket := passed(t, "")
	before := openFiles()
	ls, err := (&Inherited{socket, r}).Take(Spec{Port: port})
	if want := fmt.Sprintf("the socket %q that the service manager passed is not one to listen on: ", r.Name()); ls != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, %v", ls, err)
	}
	if n := openFiles(); n != before-1 {
		t.Errorf("%d descriptors are open, %d were before", n, before)
	}
	if err, want := (Inherited{r}).Left(), fmt.Sprintf("the service manager passed a socket at %s, and no --forward has that PORT", r.Name()); err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestWithoutAServiceManagerNothingIsPassed(t *testing.T) {
	if in := NewInherited(); len(in) > 0 {
		t.Errorf("%d files", len(in))
	}
}
