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
	"minimail/tunnel"
	"minimail/tunnel/openssh"
	"minimail/tunnel/peer"
)

// A login is one ssh with the forwards that minimail would have, at spare near
// ends: a running minimail, its ports and its back-off are not concerned, and
// it works with a key that may do nothing but forward.
type login struct {
	said *openssh.Hearing // nil: it was not tried
	err  error            // why ssh ended, or could not be tried
	took time.Duration    // until the first far end spoke
	ends []farEnd
}

type farEnd struct {
	forward.Spec
	greeting string // its first line; may be empty if it does not speak first
	err      error
	refused  openssh.Meaning // why there is none, as ssh says; "": it does not
	silent   bool            // it said nothing
}

// works reports whether the host let us in: an ssh may not say so.
func (l login) works() bool { return l.took > 0 || l.said.Step(openssh.Authenticated) > 0 }

// silence is how long a server that need not speak first is listened to, and
// maxGreeting how much is read, in bytes: a reply line has 512 (RFC 5321, 4.5.3.1.5).
const silence, maxGreeting = 2 * time.Second, 2048

// tryLogin launches ssh once, and talks to each far end.
func (c *checkup) tryLogin(ctx context.Context) {
	if c.client == nil {
		return
	}
	c.login.said = openssh.NewHearing(c.client.NewReader())
	dir, err := os.MkdirTemp("/tmp", "minimail-check-") // a socket's name is short (unix(7))
	if err != nil {
		c.login.said = nil
		c.add("files", broken, fmt.Sprintf("cannot make a private directory: %v", err), "ls -ld /tmp; df /tmp # must be drwxrwxrwt, and have space")
		return
	}
	defer os.RemoveAll(dir)
	forwards := slices.Clone(c.Forwards)
	for i := range forwards {
		forwards[i].Near = filepath.Join(dir, fmt.Sprint(i))
	}
	c.client.Forwards = forward.Lines(forwards)
	argv := c.client.ArgvOfTrial(c.files)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t := tunnel.New(tunnel.Config{
		Command:  func() tunnel.Command { return tunnel.Command{Argv: argv, Env: append(openssh.Env(), peer.Mark())} },
		Name:     c.Host,
		NearEnds: forward.NearEnds(forwards),
		Idle:     time.Hour, // until we are through
		Prove:    peer.Prover(argv),
		Listen: func() func(string, bool) tunnel.Meaning {
			return func(line string, fromLog bool) tunnel.Meaning {
				return tunnel.Meaning(c.login.said.Hear(line, fromLog))
			}
		},
		Changed: func(now tunnel.Status) {
			if now.State == tunnel.BackingOff {
				fail(now.Why) // one knock is enough
			}
		},
	})
	life, end := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { defer close(gone); t.Run(life) }()
	for _, f := range forwards {
		c.login.ends = append(c.login.ends, c.login.talk(ctx, t, f, c.Wait))
	}
	end()
	<-gone
	if !c.login.works() {
		c.login.err = cmp.Or(context.Cause(ctx), c.login.ends[0].err)
	}
}

// talk gets a far end's greeting, in the time that a client would have. ctx ends
// when ssh does.
func (l *login) talk(ctx context.Context, t *tunnel.Tunnel, f forward.Spec, patience time.Duration) farEnd {
	end := farEnd{Spec: f, err: context.Cause(ctx)}
	if end.err != nil {
		return end
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	waiting, once := context.WithCancelCause(waiting)
	defer once(nil)
	conn, err := t.Dial(waiting, f.Network(), f.Address(), func(ctx context.Context, conn net.Conn) error {
		if !f.SMTP {
			return nil
		}
		err := forward.Greeted(ctx, conn)
		if err != nil {
			once(err) // no second try: it would say the same
		}
		return err
	})
	if end.err = err; err == nil {
		defer conn.Close()
		end.greeting, end.err = greeting(conn, f.SMTP, patience)
	}
	if end.err != nil {
		end.silent = end.greeting == "" && errors.Is(context.Cause(waiting), context.DeadlineExceeded)
		l.askWhy(ctx, &end)
	} else if l.took == 0 {
		l.took = time.Since(l.said.Began)
	}
	return end
}

// greeting is the first line of a server's, and takes leave as one should: some
// servers log the others.
func greeting(conn net.Conn, smtp bool, patience time.Duration) (string, error) {
	r := bufio.NewReaderSize(io.LimitReader(conn, 4*maxGreeting), maxGreeting)
	read := forward.ReadReply
	if !smtp {
		patience, read = silence, func(r *bufio.Reader) (string, error) { return r.ReadString('\n') }
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	line, err := read(r)
	if err != nil && line == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
		return "", errors.New("it ended the connection without a word")
	}
	if smtp && err != nil { // a client would wait for the rest
		return line, fmt.Errorf("its greeting has no end: %.80q", line)
	}
	if smtp {
		_, _ = conn.Write([]byte("QUIT\r\n"))
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = r.ReadString('\n')
	}
	return strings.TrimSpace(line), nil
}

// askWhy looks for the words with which ssh explains that there is no far end;
// the connection's end may have overtaken them.
func (l *login) askWhy(ctx context.Context, end *farEnd) {
	in := func() bool { return l.said.Step(openssh.Authenticated) > 0 }
	for late := time.After(3 * time.Second); ; {
		if v := l.said.Verdict(); in() && (v.Means == openssh.Forbidden || v.Means == openssh.FarRefused) {
			_, why, _ := strings.Cut(v.Line, "open failed: ")
			end.err, end.refused = errors.New(why), v.Means
			return
		}
		select {
		case <-l.said.More:
		case <-ctx.Done():
			if in() {
				end.err, end.refused = context.Cause(ctx), openssh.LinkLost
			}
			return
		case <-late:
			return
		}
	}
}
