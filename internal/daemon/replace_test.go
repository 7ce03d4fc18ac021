package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// anybody is a user that whoever runs the tests can become.
func anybody() string {
	if os.Geteuid() == 0 {
		return testbed.RunAs
	}
	return UserName()
}

// TestWhoComesTooLateTriesAgain, though not for ever.
func TestWhoComesTooLateTriesAgain(t *testing.T) {
	pidFile, _, _ := answering(t, report(Report{PID: os.Getpid(), Handover: true}))
	s := heirsOwn(t, "-X", "--host", "far", "-u", anybody(), "--pid-file", pidFile)
	for late, want := range map[int]int{0: 1, 2: 3, maxTries: maxTries + 1, 2 * maxTries: maxTries + 1} {
		began, life := 0, errors.New("its life")
		var err error
		_ = said(t, &os.Stdout, func() {
			err = replace(s, func(settings.Settings, *Teller) error {
				if began++; began <= late {
					return errLate
				}
				return life
			}, nil)
		})
		if began != want || late <= maxTries && err != life || late > maxTries && err != errLate {
			t.Errorf("late %d times: %d lives, %v", late, began, err)
		}
	}
}

// TestOneThatIsStoppingIsNotReplaced: there will be none, or the next one.
func TestOneThatIsStoppingIsNotReplaced(t *testing.T) {
	asked := make(chan bool, 1000)
	pidFile, held, _ := answering(t, Control{Report: func() Report { asked <- true; return Report{PID: os.Getpid(), Handover: true, Stopping: true} }})
	gone := make(chan struct{})
	go func() { defer close(gone); <-asked; <-asked; held.Release() }()
	if err := replaceHolder(heirsOwn(t, "-X", "--host", "far", "-u", anybody(), "--pid-file", pidFile), nil, pidFile, os.Getpid()); err != errLate {
		t.Error(err)
	}
	<-gone
}

// TestOneThatCannotHandOverIsStoppedAndAnotherStarted with the same settings.
func TestOneThatCannotHandOverIsStoppedAndAnotherStarted(t *testing.T) {
	path := filepath.Join(testbed.PublicDir(t), "m.pid")
	pid, _ := holding(t, path, "")
	control, err := ListenControl(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	go report(Report{PID: pid}).Answer(control) // ends with it
	s := heirsOwn(t, "-X", "--host", "far", "-u", anybody(), "--pid-file", path)
	life, word := errors.New("its life"), ""
	got := said(t, &os.Stdout, func() {
		err = replace(s, func(s settings.Settings, _ *Teller) error { word = s.Word; return life }, nil)
	})
	if err != life || word != "start" || got != fmt.Sprintf("minimail is stopped: pid %d\n", pid) {
		t.Errorf("%v, with the word %q: %s", err, word, got)
	}
	if err := stopAndStart(s, func(settings.Settings, *Teller) error { return life }); err != life {
		t.Errorf("where nothing runs: %v", err)
	}
	s.PidFile = filepath.Dir(path)
	if err := stopAndStart(s, func(settings.Settings, *Teller) error { return life }); err == nil || err == life || fail.Status(err) != fail.Usage {
		t.Errorf("where nothing can be stopped: %v", err)
	}
}
