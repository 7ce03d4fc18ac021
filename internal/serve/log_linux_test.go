package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"minimail/internal/settings"
	"minimail/internal/testbed"
)

func TestAWitnessKnowsWhetherItsLastLineWasWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("needs /dev/full: ", err)
	}
	defer full.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{File: full}
	if got := w.why(); got != "" {
		t.Errorf("before any line: %q", got)
	}
	if _, err := w.Write([]byte("x")); err == nil || w.why() != "no space left on device" {
		t.Errorf("%v, %q", err, w.why())
	}
	w.File = null
	if n, err := w.Write([]byte("xy")); n != 2 || err != nil || w.why() != "" {
		t.Errorf("%d, %v, %q", n, err, w.why())
	}
	null.Close() // by ourselves: no matter of the system's
	if _, err := w.Write([]byte("x")); err == nil || w.why() != "" {
		t.Errorf("%v, %q", err, w.why())
	}
}

func TestTheJournalGetsLevelsAndNoTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log := newLogger(settings.Settings{Verbose: true}, &witness{File: f})
	log.Debug().Msg("a")
	log.Info().Msg("b")
	log.Warn().Msg("c")
	log.Error().Msg("d")
	if got := testbed.Read(t, path); got != "<7>DBG a\n<6>INF b\n<4>WRN c\n<3>ERR d\n" {
		t.Errorf("%q", got)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1))
	if isJournal(f) {
		t.Error("another file is")
	}
	f.Close()
	t.Setenv("JOURNAL_STREAM", "")
	if isJournal(f) {
		t.Error("a closed one is")
	}
}

func TestTheLogTellsWhoWeAreNow(t *testing.T) {
	var log strings.Builder
	tellOfDrop(zerolog.New(&log), nil, nil)
	if log.String() != "" {
		t.Error(log.String())
	}
	tellOfDrop(zerolog.New(&log), nil, errors.New("no"))
	if got := log.String(); got != `{"level":"warn","error":"no","message":"keeping the capabilities that it was started with"}`+"\n" {
		t.Error(got)
	}
}

func TestAHangUpIsOfATerminalThatWasThere(t *testing.T) {
	for _, c := range []struct{ foreground, terminal, want bool }{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		if got := hungUp(settings.Settings{Foreground: c.foreground, OnTerminal: c.terminal}); got != c.want { // stderr is none in tests
			t.Errorf("%+v: %v", c, got)
		}
	}
}
