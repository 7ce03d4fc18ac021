package tunnel

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestWhatLiesInAPipeAtTheDeadlineIsRead: its reader may not have had a
// processor since ssh has gone, while somebody else holds the pipe open.
func TestWhatLiesInAPipeAtTheDeadlineIsRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := io.WriteString(w, "the last\nwords\n"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(&mouth{f: r})
	if string(got) != "the last\nwords\n" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(&mouth{f: r}); string(got) != "x" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := w.Write([]byte("much")); err != nil {
		t.Fatal(err)
	}
	m, b := &mouth{f: r, left: maxLeft - 2}, make([]byte, 2)
	if n, err := m.Read(b); n != 2 || err != nil {
		t.Errorf("what may still be ssh's: read %d, %v", n, err)
	}
	if n, err := m.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("what is not any more: read %d, %v", n, err)
	}
	// Whoever goes on saying things is left alone in the end.
	go func() { // ends when r is closed
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	n, err := io.Copy(io.Discard, &mouth{f: r})
	if n > 2*maxLeft || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestAPipeThatNobodyHasAnyMoreEndsAtTheDeadlineToo(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close()
	if err := r.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := (&mouth{f: r}).Read(make([]byte, 9)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
