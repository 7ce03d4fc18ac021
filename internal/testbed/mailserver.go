package testbed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"strings"
	"testing"
	"time"
)

// Send sends a mail to a server.
func Send(at, subject string) error {
	conn, err := net.DialTimeout("tcp", at, Patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * Patience)) // longer than --wait, to hear why
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	if err := errors.Join(c.Mail("a@near.test"), c.Rcpt("b@far.test")); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "Subject: %s\r\n\r\nhello\r\n", subject); err != nil {
		return err
	}
	return errors.Join(w.Close(), c.Quit())
}

// Listen calls serve with each connection to a loopback port, whose address it
// returns, until the test ends.
func Listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go AcceptAll(l, serve)
	return l.Addr().String()
}

// AcceptAll calls serve with each connection, until l is closed.
func AcceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

// MailServer speaks just enough SMTP, and hands every mail that it accepts to
// got, which may be nil.
func MailServer(t testing.TB, got func(mail string)) string {
	return Listen(t, func(c net.Conn) { SpeakSMTP(c, got) })
}

func SpeakSMTP(c net.Conn, got func(mail string)) {
	r := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 far.test ESMTP")
	var mail strings.Builder
	for data := false; ; {
		s, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.TrimSpace(s))
		switch {
		case data && s == ".\r\n":
			if got != nil {
				got(mail.String())
			}
			data = false
			mail.Reset()
			say("250 accepted")
		case data:
			mail.WriteString(s)
		case verb == "DATA":
			data = true
			say("354 go on")
		case verb == "QUIT":
			say("221 bye")
			return
		case strings.HasPrefix(verb, "EHLO"):
			say("250-far.test\r\n250 PIPELINING")
		default:
			say("250 ok")
		}
	}
}

func Echo(c net.Conn) { _, _ = io.Copy(c, c) }
