package daemon

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"testing"
)

// TestAnItemWithoutEndIsNotReadToItsEnd: who is at the other end of a wire may be
// a user, and we root.
func TestAnItemWithoutEndIsNotReadToItsEnd(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends at the latest when w is closed
		_, _ = theirs.Write(append([]byte(`{"is":"`), bytes.Repeat([]byte("a"), 16<<20)...))
		theirs.Close()
	}()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(ours.(*net.UnixConn))
	defer w.close()
	if i, _, err := w.receive(); !errors.Is(err, errEndless) {
		t.Errorf("got %d bytes, %v", len(i.Is), err)
	}
}
