package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ServeSMTP is Serve for mail: a client gets the server's own words or a line
// with the reply code 421 and the reason, never a bare close (RFC 5321, 3.8:
// the one reply that may come at any time, and that no client takes for a
// permanent failure). dial should wait for the server's greeting with Greeted.
// OnDialError is not used.
func (f *Forwarder) ServeSMTP(ctx context.Context, l net.Listener, dial Dial) error {
	return f.accepting(ctx, l, service{dial: dial, refuse: farewell, smtp: true})
}

// errNoGreeting means that the far mail server, or the tunnel, ended the
// connection before the server had said anything.
var errNoGreeting = errors.New("the connection to the mail server ended without a greeting")

// Greeted waits until the server at the other end of c has spoken, as an SMTP
// server does first (RFC 5321, 3.1), or until ctx is done. It takes no byte.
func Greeted(ctx context.Context, c net.Conn) error {
	s, ok := c.(Stream)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot wait for the greeting: %w", err)
	}
	wake := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	var n int
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, peekErr = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return !errors.Is(peekErr, unix.EAGAIN)
	})
	if !wake() || ctx.Err() != nil {
		return errors.New("the mail server says nothing")
	}
	if err != nil || peekErr != nil || n == 0 {
		return errNoGreeting
	}
	return nil
}

// ReadReply reads a reply to its end, which may have several lines (RFC 5321, 4.2.1),
// and returns the first one, or the last that is none of 2yz.
func ReadReply(r *bufio.Reader) (line string, err error) {
	line, err = r.ReadString('\n')
	for last := line; err == nil && len(last) > 3 && last[3] == '-'; {
		if last, err = r.ReadString('\n'); err == nil && last[0] != '2' {
			line = last
		}
	}
	return line, err
}

// maxReply is the longest reply line, its end included (RFC 5321, 4.5.3.1.5).
const maxReply = 512

// lingering is how long a client may take to read a farewell.
const lingering = time.Second

// writing is how long a farewell may take to be written. Mostly that is done at
// once; but a deadline that is over before we have come to write lets nothing out.
const writing = 10 * time.Second

// farewell tells the client why it cannot be served, if there is something to
// tell, and closes it. A close with unread bytes would become a reset and take
// the text with it, so what the client has to say is read for a while.
func farewell(client Stream, why error) {
	defer client.Close()
	if why != nil {
		text := reply421(why)
		_ = client.SetWriteDeadline(time.Now().Add(writing))
		if _, err := io.WriteString(client, text); err != nil {
			return
		}
	}
	_ = client.CloseWrite()
	_ = client.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, client)
	drop(client)
}

// drop reads what has come from c already, whatever its deadline: that may have
// passed before we had looked. A client that goes on sending does not hold us up.
func drop(c Stream) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		b := buffers.Get().(*buffer)
		defer buffers.Put(b)
		for range 256 { // 8 MB, more than a socket's queue
			if n, err := unix.Read(int(fd), b[:]); err != nil || n == 0 {
				return
			}
		}
	})
}

// reply421 is one line whatever why says: ssh's words come from outside.
func reply421(why error) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, "421 "+host+" minimail: "+why.Error())
	return text[:min(len(text), maxReply-2)] + "\r\n"
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// errLost is what a client is told whose server has gone in mid-session.
var errLost = errors.New("the connection to the mail server was lost")
