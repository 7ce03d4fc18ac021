package check

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	said  *hearer
}

type farEnd struct {
	forward.Spec
	greeting string // its first line; may be empty if it does not speak first
	err      error
	refused  openssh.Meaning // why sshd did not connect to it, or no more; "": it did
	silent   bool            // it said nothing
}

// works reports whether the host let us in.
func (l login) works() bool { return l.after > 0 }

// silence is how long a server that need not speak first is listened to.
const silence = 2 * time.Second

// maxGreeting is how much of a greeting is read, in bytes: a reply line has 512
// at most (RFC 5321, 4.5.3.1.5).
const maxGreeting = 2048

// tryLogin launches ssh once, and talks to each far end.
func (c *checkup) tryLogin(ctx context.Context) {
	if c.program == "" || c.refused {
		return
	}
	c.login.tried = true
	dir, err := shortDir("minimail-check-")
	if err != nil {
		c.login.err = fmt.Errorf("cannot make a private directory: %w", err)
		return
	}
	defer os.RemoveAll(dir)
	s, first := c.atSpareEnds(dir)
	c.client.Forwards = forward.Lines(s.Forwards)
	argv := c.client.Argv()
	c.login.said = newHearer(c.client)

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t := tunnel.New(tunnel.Config{
		Command: func() tunnel.Command {
			return tunnel.Command{Argv: slices.Concat(argv[:1], first, argv[1:]), Env: openssh.Env()}
		},
		Name:     c.Host,
		NearEnds: forward.NearEnds(s.Forwards),
		Idle:     time.Hour, // until we are through
		Listen:   c.login.said.listen,
		Changed: func(now tunnel.Status) {
			if now.State == tunnel.BackingOff {
				fail(now.Why) // one knock is enough
			}
		},
	})
	life, end := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { defer close(gone); t.Run(life) }()
	for _, f := range s.Forwards {
		c.login.ends = append(c.login.ends, c.login.talk(ctx, t, f, c.Wait))
	}
	end()
	<-gone
	c.login.after = cmp.Or(c.login.said.letIn(), c.login.took) // an ssh may not say that it is in
	if c.login.after == 0 {
		c.login.err = cmp.Or(context.Cause(ctx), c.login.ends[0].err)
	}
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
// ssh so that it tells of each step, and writes nothing into known_hosts.
func (c *checkup) atSpareEnds(dir string) (s settings.Settings, first []string) {
	s = c.Settings
	s.Forwards = slices.Clone(s.Forwards)
	for i := range s.Forwards {
		s.Forwards[i].Near = filepath.Join(dir, fmt.Sprint(i))
	}
	first = []string{"-v"} // to the ssh of a ProxyJump as well
	if c.version.AtLeast(6, 8) {
		first = append(first, "-o", "UpdateHostKeys=no")
	}
	if c.asksNobody() {
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

// asksNobody reports whether ssh takes a host that it does not know.
func (c *checkup) asksNobody() bool {
	return slices.Contains([]string{"accept-new", "false", "no", "off"}, c.config.One("stricthostkeychecking"))
}

// talk gets a far end's greeting, in the time that a client would have.
func (l *login) talk(ctx context.Context, t *tunnel.Tunnel, f forward.Spec, patience time.Duration) farEnd {
	end := farEnd{Spec: f}
	if end.err = context.Cause(ctx); end.err != nil {
		return end
	}
	whole := ctx
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
		end.err, end.silent = err, errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		l.askWhy(whole, &end)
		return end
	}
	defer conn.Close()
	if !f.SMTP {
		patience = silence
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReaderSize(io.LimitReader(conn, maxGreeting), maxGreeting)
	line, err := r.ReadString('\n')
	end.greeting = strings.TrimSpace(line)
	if err != nil && line == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
		end.err = errors.New("it ended the connection without a word")
		l.askWhy(whole, &end)
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

// askWhy looks for the words with which ssh explains that there is no far end; ctx
// ends when ssh does.
func (l *login) askWhy(ctx context.Context, end *farEnd) {
	if l.said.letIn() == 0 {
		return
	}
	// The connection's end may have overtaken them.
	for late := time.After(time.Second); ; {
		if v := l.said.verdict(); v.Means == openssh.Forbidden || v.Means == openssh.FarRefused {
			_, why, _ := strings.Cut(v.Line, "open failed: ")
			end.err, end.refused = errors.New(why), v.Means
			return
		}
		select {
		case <-l.said.more:
		case <-ctx.Done():
			end.err, end.refused = context.Cause(ctx), openssh.LinkLost
			return
		case <-late:
			return
		}
	}
}
