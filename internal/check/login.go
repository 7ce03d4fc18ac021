package check

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"minimail/forward"
	"minimail/internal/settings"
	"minimail/tunnel"
	"minimail/tunnel/openssh"
)

// A login is one ssh with the forwards that minimail would have, at spare near
// ends: a running minimail, its ports and its back-off are not concerned, and
// it works with a key that may do nothing but forward.
type login struct {
	tried bool
	err   error         // why ssh ended, or could not be tried
	after time.Duration // until the host let us in; 0: it did not
	took  time.Duration // until the first far end spoke
	ends  []farEnd
	said  *sshWords
}

type farEnd struct {
	forward.Spec
	greeting string // its first line; may be empty if it does not speak first
	err      error
}

// works tells whether the host let us in.
func (l login) works() bool { return l.after > 0 }

// heard tells whether ssh said so.
func (l login) heard(words string) bool {
	return l.said.find(words) != "" || l.err != nil && strings.Contains(l.err.Error(), words)
}

// silence is how long a server that need not speak first is listened to.
const silence = 2 * time.Second

// tryLogin launches ssh once, and talks to each far end.
func (c *checkup) tryLogin(ctx context.Context) {
	if c.config == nil {
		return
	}
	c.login.tried = true
	dir, err := privateDir()
	if err != nil {
		c.login.err = err
		return
	}
	defer os.RemoveAll(dir)
	s, first := c.atSpareEnds(dir)
	argv := command(s).Argv(c.version)
	c.login.said = &sshWords{began: time.Now(), more: make(chan struct{}, 1)}

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t := tunnel.New(tunnel.Config{
		Argv:     slices.Concat(argv[:1], first, argv[1:]),
		Env:      openssh.Env(),
		Name:     c.Host,
		NearEnds: forward.NearEnds(s.Forwards),
		Idle:     time.Hour, // until we are through
		Listen:   c.login.said.listen,
		Changed: func(now tunnel.Status) {
			if now.State == tunnel.BackingOff {
				fail(now.Why) // one knock is enough
			}
		},
		Log: zerolog.New(c.login.said),
	})
	life, end := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { defer close(gone); t.Run(life) }()
	for _, f := range s.Forwards {
		e := c.login.talk(ctx, t, f, c.Wait)
		c.login.ends = append(c.login.ends, e)
	}
	end()
	<-gone
	c.login.after = c.login.said.authenticated()
	if c.login.took > 0 && c.login.after == 0 {
		c.login.after = c.login.took // with LogLevel=QUIET it does not say
	}
	if c.login.after == 0 {
		c.login.err = cmp.Or(context.Cause(ctx), c.login.ends[0].err)
	}
}

// privateDir is a place for sockets, short enough for their names.
func privateDir() (string, error) {
	dir, err := shortDir("minimail-check-")
	if err != nil {
		return "", fmt.Errorf("cannot make a private directory: %w", err)
	}
	return dir, nil
}

// shortDir is below TMPDIR, if that is ours to use and a socket's name can be
// as long as that (unix(7)).
func shortDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err == nil && len(dir) > 80 {
		os.Remove(dir)
	}
	if err != nil || len(dir) > 80 {
		return os.MkdirTemp("/tmp", pattern)
	}
	return dir, nil
}

// atSpareEnds are our settings with other near ends, and what has to be said to
// ssh so that it writes nothing into known_hosts.
func (c *checkup) atSpareEnds(dir string) (s settings.Settings, first []string) {
	s = c.Settings
	s.Forwards = slices.Clone(s.Forwards)
	for i := range s.Forwards {
		s.Forwards[i].Near = filepath.Join(dir, fmt.Sprint(i))
	}
	if c.version.AtLeast(6, 8) {
		first = append(first, "-o", "UpdateHostKeys=no")
	}
	switch c.config.One("stricthostkeychecking") {
	case "accept-new", "false", "no", "off":
		var known []byte
		for _, f := range strings.Fields(strings.Join(c.config["userknownhostsfile"], " ")) {
			b, _ := os.ReadFile(c.file(f))
			known = append(append(known, b...), '\n')
		}
		copied := filepath.Join(dir, "known_hosts")
		if os.WriteFile(copied, known, 0o600) == nil {
			first = append(first, "-o", "UserKnownHostsFile="+copied)
		}
	}
	return s, first
}

// talk gets a far end's greeting, in the time that a client would have.
func (l *login) talk(ctx context.Context, t *tunnel.Tunnel, f forward.Spec, patience time.Duration) farEnd {
	end := farEnd{Spec: f}
	if end.err = context.Cause(ctx); end.err != nil {
		return end
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ctx, once := context.WithCancelCause(ctx)
	defer once(nil)
	answered := func(ctx context.Context, conn net.Conn) error {
		if !f.SMTP {
			return nil
		}
		err := forward.Greeted(ctx, conn)
		if err != nil {
			once(err) // no second try: it would say the same
		}
		return err
	}
	conn, err := t.Dial(ctx, f.Network(), f.Address(), answered)
	if err != nil {
		end.err = l.refusal(err)
		return end
	}
	defer conn.Close()
	if !f.SMTP {
		patience = silence
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	end.greeting = strings.TrimSpace(line)
	if err != nil && line == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
		end.err = l.refusal(errors.New("it ended the connection without a word"))
		return end
	}
	if l.took == 0 {
		l.took = time.Since(l.said.began)
	}
	if f.SMTP { // take leave as one should: some servers log the others
		_, _ = conn.Write([]byte("QUIT\r\n"))
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = r.ReadString('\n')
	}
	return end
}

// refusal is err, or the words with which ssh explains it.
func (l *login) refusal(err error) error {
	if l.said.authenticated() == 0 {
		return err
	}
	// The connection's end may have overtaken them.
	for late := time.After(time.Second); ; {
		if line := l.said.find("open failed: "); line != "" {
			_, why, _ := strings.Cut(line, "open failed: ")
			return errors.New(why)
		}
		select {
		case <-l.said.more:
		case <-late:
			return err
		}
	}
}

// sshWords gets the tunnel's log, and keeps what ssh said.
type sshWords struct {
	began time.Time
	more  chan struct{} // has something if there is something new

	mu    sync.Mutex
	lines []string
	in    time.Duration // when the host let us in
}

// listen tells what the words of one ssh mean, and notes when it is let in.
func (w *sshWords) listen() func(string, bool) tunnel.Meaning {
	r := openssh.NewReader(func() bool { return false })
	return func(line string, fromLog bool) tunnel.Meaning {
		m := tunnel.Meaning(r.Read(line, fromLog))
		if m.LetIn {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.in = max(time.Since(w.began), time.Microsecond)
		}
		return m
	}
}

// Write gets one event.
func (w *sshWords) Write(event []byte) (int, error) {
	line := sshLine(event)
	if line == "" {
		return len(event), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
	select {
	case w.more <- struct{}{}:
	default:
	}
	return len(event), nil
}

// find is the last line with such words; nil has heard nothing.
func (w *sshWords) find(words string) string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range slices.Backward(w.lines) {
		if strings.Contains(l, words) {
			return l
		}
	}
	return ""
}

func (w *sshWords) authenticated() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in
}
