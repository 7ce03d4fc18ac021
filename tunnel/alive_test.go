package tunnel

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// silent is a far end that says nothing as long as w's first launch is there.
func silent(w *world) answerer {
	return func(ctx context.Context, _ net.Conn) error {
		if len(w.launches()) > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestWhatOfTheKernelsSignsIsDeath(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		signs            signs
		quiet            time.Duration
		waiting, working bool
		probe            time.Duration
		dead             bool
	}{
		"nobody is there":                                {signs{heard: 29 * s, owed: true}, 29 * s, false, false, 0, false},
		"nobody waits, 30 s":                             {signs{heard: 30 * s, owed: true}, 30 * s, false, true, 0, true},
		"a client waits, just too short":                 {signs{heard: 9 * s, owed: true}, 5*s - 1, true, false, 0, false},
		"a client waits, 5 s":                            {signs{heard: 5 * s, owed: true}, 5 * s, true, false, 0, true},
		"a client waits, another works, 5 s":             {signs{heard: 5 * s, owed: true}, 5 * s, true, true, 0, false},
		"a client waits, another works, 15 s":            {signs{heard: 15 * s, owed: true}, 15 * s, true, true, 0, true},
		"a client waits, sent again in vain":             {signs{heard: 60 * s, owed: true, again: 5}, s, true, false, 0, true},
		"a client waits, another works, in vain":         {signs{heard: 60 * s, owed: true, again: 9}, 14 * s, true, true, 0, false},
		"a client waits, sent again, just now":           {signs{heard: 60 * s, owed: true, again: 5}, s - 1, true, false, 0, false},
		"a client waits, sent again less often":          {signs{heard: 60 * s, owed: true, again: 4}, 4 * s, true, false, 0, false},
		"all is acknowledged, and ssh asks no questions": {signs{data: time.Hour}, 0, true, false, 0, false},
		"the question is not answered":                   {signs{data: 15 * s}, 0, true, false, 10 * s, true},
		"the question may still be answered":             {signs{data: 15*s - 1}, 0, true, false, 10 * s, false},
		"the question has not arrived":                   {signs{data: 15 * s, owed: true}, s, true, false, 10 * s, false},
		"the question is not answered, nobody waits":     {signs{data: 15 * s}, 0, false, true, 10 * s, false},
	} {
		if err := test.signs.dead(test.quiet, test.waiting, test.working, test.probe); (err != nil) != test.dead {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADeadConnectionIsReplacedWhenAClientKnocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour}, life{dies: time.Minute})
		w.comes(never).connected().leaves()
		time.Sleep(2 * time.Minute)
		w.isUp() // for nobody needs it
		k := w.comes(25*time.Second, silent(w)).connected().waitedFor(deadAlone + dialTakes)
		defer k.leaves()
		w.launched(2)
		if s := w.launches()[0]; s.told != k.began.Add(deadAlone) {
			t.Errorf("told to go %s after the knock", s.told.Sub(k.began))
		}
		if s := w.Status(); s.LastError != nil {
			t.Errorf("it is taken for a failed launch: %v", s.LastError)
		}
	})
}

func TestAFrozenHostIsNoticedByTheQuestionThatItDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := new(logBook)
		cfg := Config{Idle: time.Hour, Log: zerolog.New(log), Command: func() Command { return Command{Probe: 10 * time.Second} }}
		w := newWorld(t, cfg, life{freezes: time.Minute})
		w.comes(never).connected().leaves()
		time.Sleep(time.Minute)
		k := w.comes(25*time.Second, silent(w)).connected().waitedFor(15*time.Second + dialTakes)
		defer k.leaves()
		w.launched(2)
		const dead = `{"level":"warn","error":"the host has said nothing for 16 s, though ssh has asked","message":"the connection to the host is dead: the next client gets another"}` + "\n"
		if n := log.count(dead); n != 1 {
			t.Errorf("logged %d times: %s", n, log)
		}
	})
}

func TestAConnectionThatOthersWorkOnGetsMoreTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour}, life{dies: time.Minute})
		works := w.comes(never).connected()
		time.Sleep(time.Minute)
		k := w.comes(25*time.Second, silent(w)).connected().waitedFor(deadShared + dialTakes)
		defer k.leaves()
		if err := works.conn.Lost(time.Second); err == nil || !strings.HasPrefix(err.Error(), "nothing has come from the host for 1") {
			t.Errorf("the other client is told %v", err)
		}
		works.leaves()
	})
}

func TestAConnectionThatIsDeadUnderItsClientsIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour}, life{dies: time.Minute})
		k := w.comes(never).connected()
		began := time.Now().Add(-dialTakes)
		<-k.conn.l.ended
		if d := time.Since(began); d < time.Minute+deadUsed || d > time.Minute+deadUsed+2*lookWorking {
			t.Errorf("given up after %s", d)
		}
		k.leaves()
	})
}

func TestALoginThatGoesOnIsNotDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Hour}, life{dies: time.Second, ready: time.Minute})
		w.comes(time.Hour).connected().leaves()
		w.launched(1)
	})
}

func TestStatusIsAnsweredWhileSSHIsBeingStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{}, life{stopTakes: 5 * time.Second})
		k := w.comes(never).connected()
		defer k.leaves()
		w.stopRun()
		time.Sleep(4 * time.Second)
		if s := w.Status(); s.State != Closing || s.Clients != 1 {
			t.Errorf("%+v", s)
		}
		w.comes(never).refused(ErrStopped.Error()).waitedFor(0)
		<-w.stopped
	})
}
