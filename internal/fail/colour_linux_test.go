package fail

import (
	"os"
	"testing"
)

func TestColoursAreForATerminalThatHasThem(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		term string
		file *os.File
		want bool
	}{{"xterm", terminal, true}, {"", terminal, true}, {"dumb", terminal, false}, {"xterm", null, false}, {"dumb", null, false}} {
		t.Setenv("TERM", c.term)
		if got := Colour(c.file); got != c.want {
			t.Errorf("TERM=%s, %s: %v", c.term, c.file.Name(), got)
		}
	}
}
