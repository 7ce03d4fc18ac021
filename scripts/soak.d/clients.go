//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A told is what a client was told of one attempt to send a mail.
type told struct {
	by            string
	mail, attempt int
	sent          bool
	unclear       bool // the reply to the final dot was lost
	permanent     bool // a 5xx
	words         string
}

// mailOf is the text of an attempt: each line tells whose it is, and where.
func mailOf(number, attempt, lines int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: UPS <ups@soak.example>\r\nTo: You <you@soak.example>\r\nSubject: power failure %d\r\nMessage-Id: <%d.%d@soak.example>\r\nX-Soak: %d %d %d\r\n\r\n",
		number, number, attempt, number, attempt, lines)
	for i := range lines {
		fmt.Fprintf(&b, "%d %d is a line that has to be there as it is, and in its place\r\n", number, i+1)
	}
	return b.Bytes()
}

// byReporter sends as programs do that report: an answer to QUIT that is not 221
// counts as a failure (Python's smtplib in a with statement).
func (w *world) byReporter(number, attempt, lines int) told {
	t := told{by: "reporter", mail: number, attempt: attempt}
	err := w.session(mailOf(number, attempt, lines), &t)
	t.sent = err == nil
	if reply := (*textproto.Error)(nil); errors.As(err, &reply) {
		t.permanent = reply.Code >= 500
	}
	if err != nil {
		t.words = err.Error()
	}
	return t
}

func (w *world) session(mail []byte, t *told) error {
	conn, err := w.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	if err := c.Mail("ups@soak.example"); err != nil {
		return err
	}
	if err := c.Rcpt("you@soak.example"); err != nil {
		return err
	}
	d, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := d.Write(mail); err != nil {
		return err
	}
	var reply *textproto.Error
	if err := d.Close(); err != nil {
		t.unclear = !errors.As(err, &reply)
		return err
	}
	if err := c.Quit(); errors.As(err, &reply) {
		return fmt.Errorf("at QUIT: %w", err)
	}
	return nil // the mail was accepted, and whoever hangs up says nothing
}

// byMsmtp sends with msmtp, which shows what it says and hears.
func (w *world) byMsmtp(number, attempt, lines int) told {
	t := told{by: "msmtp", mail: number, attempt: attempt}
	var out bytes.Buffer
	err := w.near(func() error {
		cmd := exec.Command("msmtp", "--debug", "--host=127.0.0.1", "--port="+strconv.Itoa(w.port), "--timeout=60", "--domain=localhost",
			"--tls=off", "--auth=off", "--from=ups@soak.example", "--", "you@soak.example")
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(mailOf(number, attempt, lines)), &out, &out, append(os.Environ(), "HOME="+w.dir)
		return cmd.Run()
	})
	_, afterDot, dot := strings.Cut(out.String(), "\n--> .\r\n") // of a mail's own dot it shows two
	t.unclear = dot && !strings.Contains(afterDot, "<-- ")
	t.sent = err == nil
	for l := range strings.Lines(out.String()) {
		if strings.HasPrefix(l, "msmtp: ") {
			t.words += l
		}
	}
	t.permanent = strings.Contains(t.words, "server message: 5")
	return t
}

// atOnce is how many clients are at work at a time, and about how many mails are
// in each queue: so all kinds of clients meet all faults.
const atOnce = 24

// giveMails has each mail sent, again and again until its client is told that it
// was. They come in waves with pauses between them, some long enough for the
// tunnel to close.
func (r *run) giveMails(chance *rand.Rand) {
	places := make(chan struct{}, atOnce)
	var clients sync.WaitGroup
	for n := 1; n <= r.count; n++ {
		lines := 1 + chance.IntN(40)
		if chance.IntN(8) == 0 && !r.slow {
			lines = chance.IntN(5000)
		}
		places <- struct{}{}
		if n%4 < len(r.queues) {
			r.waitFor(r.queues[n%4], atOnce)
			r.queues[n%4].send(n, lines)
			<-places
		} else {
			clients.Go(func() { defer func() { <-places }(); r.sendUntilSent(n, lines) })
		}
		if chance.IntN(8) == 0 {
			time.Sleep(time.Duration(chance.IntN(2500)) * time.Millisecond)
		}
	}
	clients.Wait()
	for _, q := range r.queues {
		r.waitFor(q, 1)
	}
}

func (r *run) sendUntilSent(n, lines int) {
	by := r.byReporter
	if n%4 == 2 {
		by = r.byMsmtp
	}
	for attempt := 1; time.Now().Before(r.deadline); attempt++ {
		t := by(n, attempt, lines)
		r.note(t)
		if t.sent {
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func (r *run) note(t told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, t)
}
