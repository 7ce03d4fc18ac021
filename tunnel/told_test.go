package tunnel

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestTheLogTellsOfACountdownThatIsCalledOffAndOfNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := new(logBook)
		w := newWorld(t, Config{Idle: 10 * time.Second, Log: zerolog.New(log)})
		a, b := w.comes(never).connected(), w.comes(never).connected() // no countdown is on
		if n := log.count("called off"); n != 0 {
			t.Errorf("called off %d times before there was one", n)
		}
		a.leaves()
		b.leaves()
		time.Sleep(time.Second)
		w.comes(never).connected().leaves()
		synctest.Wait()
		if n := log.count("called off"); n != 1 {
			t.Errorf("called off %d times, want once", n)
		}
		if n := log.count("the last client has left: countdown started"); n != 2 {
			t.Errorf("%d countdowns: %s", n, log)
		}
		if n := log.count(`"closes_in":"10s"`); n != 2 {
			t.Errorf("%d countdowns of 10 s: %s", n, log)
		}
		if line := log.find(t, "the tunnel answers"); !strings.Contains(line, `"after":"1ms"`) {
			t.Errorf("it answered after %s, want %s", line, dialTakes)
		}
		time.Sleep(time.Minute)
		log.find(t, "time's up: closing the tunnel")
		if line := log.find(t, "the tunnel is closed"); !strings.Contains(line, `"lasted":"11.00`) {
			t.Errorf("it lasted %s, want 11 s", line)
		}
	})
}

func TestOnlyRecentWordsExplainTheEndOfATunnelThatHasWorked(t *testing.T) {
	for age, want := range map[time.Duration]string{
		9 * time.Second:  "Timeout, server far not responding",
		11 * time.Second: "ssh ended without a word",
	} {
		bubble(t, func(t *testing.T) {
			l := newLaunch(Command{})
			close(l.answered)
			l.remember(Meaning{Why: "Timeout, server far not responding."})
			time.Sleep(age)
			if err := New(Config{}).whyEnded(l.life, l, nil); err == nil || err.Error() != want {
				t.Errorf("words of %s ago: %v, want %q", age, err, want)
			}
			l.stop(nil)
		})
	}
	bubble(t, func(t *testing.T) {
		l := newLaunch(Command{})
		l.remember(Meaning{Why: "no route"})
		time.Sleep(3 * recent)
		if err := New(Config{}).whyEnded(l.life, l, nil); err == nil || err.Error() != "no route" {
			t.Errorf("of a launch that has never answered all words count, but it ended because of %v", err)
		}
		l.stop(nil)
	})
}

func TestWhatAnEndMeansForTheNextPause(t *testing.T) {
	killed := exec.Command("/bin/sh", "-c", "kill -9 $$").Run()
	status255 := exec.Command("/bin/sh", "-c", "exit 255").Run()
	for name, test := range map[string]struct {
		letIn bool
		err   error
		want  string
	}{
		"words that were definite":         {false, nil, Definite},
		"the same after it was let in":     {true, nil, Unseen},
		"the same of one that was killed":  {false, killed, Unclear},
		"killed after it had been let in":  {true, killed, Unseen},
		"an exit status that says nothing": {false, status255, Definite},
		"an error that is no exit":         {false, errors.New("no child"), Definite},
	} {
		l := newLaunch(Command{})
		l.remember(Meaning{Why: "Permission denied", Failure: Definite})
		if test.letIn {
			close(l.letIn)
		}
		if f := failureOf(New(Config{}).whyEnded(l.life, l, test.err)); f.kind != test.want || f.hopeless != (f.kind == Definite) {
			t.Errorf("%s: %q, hopeless %t; want %q", name, f.kind, f.hopeless, test.want)
		}
		l.stop(nil)
	}
}

func TestWithoutDescriptorsALaunchFailsAndSaysSo(t *testing.T) {
	argv := fake("poor")
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	if state, err := p.Wait(); err != nil || state.ExitCode() != 0 {
		t.Errorf("%v %v", state, err)
	}
}
