// Package peer tells who is at the other end of a connection within this
// machine, and who listens there.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"minimail/tunnel"
)

// A peer is the other end of a connection within this machine. If no process
// holds it, it is either not accepted yet or closed.
type peer struct {
	uid     uint32
	inode   uint32
	held    bool
	listens bool // it is not a connection at all
	closed  bool
}

// Trust returns tunnel's Trust: the near end must belong to a process of
// our own user, or anybody on this machine could sit on it and read our mail.
// A Unix socket that we can open is ours or root's. Where the kernel does not
// tell, everybody is trusted, and the log says so once; but nobody is while we
// only lack what asking takes.
func Trust(log zerolog.Logger) func(context.Context, net.Conn) error {
	var once sync.Once
	return func(ctx context.Context, c net.Conn) error {
		if _, ok := c.(*net.TCPConn); !ok {
			return nil
		}
		uid, err := holder(ctx, c)
		switch {
		case errors.Is(err, tunnel.ErrDropped), isShortage(err):
			return err
		case err != nil:
			once.Do(func() {
				log.Warn().Err(err).Msg("cannot tell who listens on the near end: anybody is trusted")
			})
			return nil
		case int(uid) != os.Getuid():
			return fmt.Errorf("%s is held by uid %d%s, not by our ssh", c.RemoteAddr(), uid, called(uid))
		}
		return nil
	}
}

// isShortage tells whether an error will pass, when there are descriptors or
// memory again.
func isShortage(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, func(e error) bool {
		return errors.Is(err, e)
	})
}

// acceptTimeout is how long a connection may wait for a process to accept it if
// it is not known whose business that is.
const acceptTimeout = time.Second

// holder waits until a process has accepted c, and returns its user. It does
// not wait for a listener of somebody else's. ssh may take its time: it cannot
// accept while it has no descriptors left.
func holder(ctx context.Context, c net.Conn) (uint32, error) {
	for began, pause := time.Now(), 50*time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		p, err := peerOf(c)
		switch {
		case p.held:
			return p.uid, nil
		case p.closed:
			return 0, tunnel.ErrDropped
		case err != nil:
			return 0, err
		}
		l, err := listenerOf(c)
		switch known := err == nil && l.listens; {
		case known && int(l.uid) != os.Getuid():
			return l.uid, nil
		case !known && time.Since(began) > acceptTimeout:
			return 0, fmt.Errorf("%w: nobody accepts connections there", tunnel.ErrDropped)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", tunnel.ErrDropped, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func called(uid uint32) string {
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	if err != nil {
		return ""
	}
	return " (" + u.Username + ")"
}

// Gone tells whether no process holds the other end of a client's
// connection any more. Of a client on another machine, and by a kernel that
// does not tell, that is not known: it is taken for a no.
func Gone(c net.Conn) bool {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !remote.IP.IsLoopback() {
		return false
	}
	p, err := peerOf(c)
	return err == nil && p.closed
}
