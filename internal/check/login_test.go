package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"minimail/internal/testbed"
	"minimail/tunnel/openssh"
)

func TestALoginIsTriedOnceAndLeavesNothing(t *testing.T) {
	var out strings.Builder
	dir := fakes(t)
	t.Setenv("MINIMAIL_SSH", filepath.Join(dir, "ssh"))
	k := checkupOf(t, &out, "--forward", "2525:1025:a:25", "--forward", "2526:1026:b:25")
	k.tryLogin(t.Context())
	if k.login.said != nil {
		t.Error("without an ssh one is tried")
	}
	k.checkSSH(t.Context())
	testbed.Write(t, filepath.Join(dir, "ssh.sh"), `echo "$*" >>"${0%/*}/calls"
echo "ssh: Could not resolve hostname far: Name or service not known"
exit 255
`)
	k.tryLogin(t.Context())
	const why = "ssh: Could not resolve hostname far: Name or service not known"
	if l := k.login; l.said == nil || l.works() || l.took != 0 || l.said.Verdict().Means != openssh.NoSuchHost || l.err == nil || !strings.Contains(l.err.Error(), why) || len(l.ends) != 2 {
		t.Fatalf("%+v", l)
	}
	for i, e := range k.login.ends {
		if fmt.Sprint(e.err) != k.login.err.Error() || e.refused != "" || e.silent || e.Far != k.Forwards[i].Far || filepath.Base(e.Near) != fmt.Sprint(i) {
			t.Errorf("%+v", e)
		}
		if spare := filepath.Dir(e.Near); !strings.HasPrefix(spare, "/tmp/minimail-check-") || testbed.Exists(spare) {
			t.Errorf("%s is left", spare)
		}
	}
	near := k.login.ends[0].Near
	if calls := testbed.Read(t, filepath.Join(dir, "calls")); strings.Count(calls, "\n") != 1 || !strings.Contains(calls, "-L "+near+":a:25 -L "+filepath.Dir(near)+"/1:b:25 ") {
		t.Errorf("ssh was called with\n%s", calls)
	}
	if k.Forwards[0].Near != "1025" {
		t.Errorf("the forwards are %v", k.Forwards)
	}
}

// TestAServerThatDoesNotSayGoodbyeIsLeftSoon: a second is enough.
func TestAServerThatDoesNotSayGoodbyeIsLeftSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			_, _ = theirs.Write([]byte("220 far\r\n"))
			_, _ = theirs.Read(make([]byte, 100))
		}()
		began := time.Now()
		if line, err := greeting(ours, true, time.Hour); line != "220 far" || err != nil || time.Since(began) != time.Second {
			t.Errorf("%q, %v, after %s", line, err, time.Since(began))
		}
	})
}

// TestSSHIsAskedWhyThereIsNoFarEnd: what it says may come late, or never.
func TestSSHIsAskedWhyThereIsNoFarEnd(t *testing.T) {
	none, ended := errors.New("no greeting"), errors.New("ssh has ended")
	for name, c := range map[string]struct {
		lines   []string // a second after each other
		ends    time.Duration
		takes   time.Duration
		err     string
		refused openssh.Meaning
	}{
		"forbidden":            {[]string{letIn, "channel 2: open failed: administratively prohibited: open failed"}, 0, 2 * time.Second, "administratively prohibited: open failed", openssh.Forbidden},
		"refused":              {[]string{letIn, "channel 2: open failed: connect failed: Connection refused"}, 0, 2 * time.Second, "connect failed: Connection refused", openssh.FarRefused},
		"nothing":              {[]string{letIn}, 0, 3 * time.Second, "no greeting", ""},
		"the end of a session": {[]string{letIn}, 2 * time.Second, 2 * time.Second, "ssh has ended", openssh.LinkLost},
		"the end of a login":   {[]string{keys}, 2 * time.Second, 2 * time.Second, "no greeting", ""},
		"gibberish":            {[]string{letIn, "gibberish"}, 0, 3 * time.Second, "no greeting", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := hears()
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			if c.ends > 0 {
				time.AfterFunc(c.ends, func() { end(ended) })
			}
			go func() {
				for _, line := range c.lines {
					time.Sleep(time.Second)
					if m := l.said.Hear(line, true); m.LetIn != (line == letIn) {
						t.Errorf("%s is taken for %+v", line, m)
					}
				}
			}()
			began, it := time.Now(), farEnd{err: none}
			if l.askWhy(ctx, &it); fmt.Sprint(it.err) != c.err || it.refused != c.refused || time.Since(began) != c.takes {
				t.Errorf("%s: %v, %q, after %s", name, it.err, it.refused, time.Since(began))
			}
		})
	}
}
