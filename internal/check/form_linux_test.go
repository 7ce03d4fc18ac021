package check

import (
	"os"
	"testing"

	"minimail/internal/settings"
)

func TestATerminalHasColoursUnlessNobodyWantsThem(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	t.Setenv("TERM", "xterm")
	for no, want := range map[string][3]string{"": colourSigns, "1": prettySigns} {
		t.Setenv("NO_COLOR", no)
		if f := newForm(settings.Settings{JSON: true}, terminal); f.signs != want || f.w != terminal || !f.json || f.nagios {
			t.Errorf("NO_COLOR=%s: %+v", no, f)
		}
	}
	t.Setenv("TERM", "dumb")
	if f := newForm(settings.Settings{Nagios: true}, terminal); f.signs != plainSigns || f.json || !f.nagios {
		t.Errorf("dumb: %+v", f)
	}
}
