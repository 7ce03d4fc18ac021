package daemon

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"minimail/internal/testbed"
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

// wires are the two ends of one.
func wires(t *testing.T) (theirs, ours *wire) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours = newWire(a.(*net.UnixConn)), newWire(b.(*net.UnixConn))
	t.Cleanup(func() { theirs.close(); ours.close() })
	for _, w := range []*wire{theirs, ours} {
		_ = w.conn.SetDeadline(time.Now().Add(time.Minute))
	}
	return theirs, ours
}

func TestFilesComeInTheOrderOfTheItemsTheyBelongTo(t *testing.T) {
	theirs, ours := wires(t)
	dir := t.TempDir()
	for _, name := range []string{"a", "b", ""} {
		var f *os.File
		if name != "" {
			testbed.Write(t, filepath.Join(dir, name), name)
			f, _ = os.Open(filepath.Join(dir, name))
			defer f.Close()
		}
		if err := theirs.send(item{Is: name, File: true}, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", ""} {
		i, f, err := ours.receive()
		if err != nil || i.Is != name || (f != nil) != (name != "") || i.File != (name != "") {
			t.Fatalf("%+v, %v, %v", i, f, err)
		}
		if f != nil {
			if b, err := io.ReadAll(f); string(b) != name || err != nil {
				t.Errorf("with %s comes %q, %v", name, b, err)
			}
			f.Close()
		}
	}
	if len(ours.files) != 0 {
		t.Errorf("%d are left", len(ours.files))
	}
}

// TestFilesThatNobodyHasClaimedAreClosed, and what is claimed is not.
func TestFilesThatNobodyHasClaimedAreClosed(t *testing.T) {
	theirs, ours := wires(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if err := theirs.send(item{Is: "x"}, f); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	_, claimed, err := ours.receive()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1)); err != nil { // and the file with it
		t.Fatal(err)
	}
	left := slices.Clone(ours.files)
	ours.close()
	for _, f := range left {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("one that nobody has claimed: %v", err)
		}
	}
	if err := claimed.Close(); len(left) != 1 || err != nil {
		t.Errorf("%d left; one that is claimed: %v", len(left), err)
	}
	if err := theirs.send(item{Is: "x"}, f); err == nil {
		t.Error("a file that is closed is sent")
	}
}
