// Mailsink is the mail server of demos, tests and benchmarks: it accepts every
// mail, from and to anybody, and offers no authentication.
//
//	mailsink [--listen 127.0.0.1:0] [--dir DIR] [--quiet]
//
// The first line on stdout is the address that it listens on; then comes a
// line per mail, unless --quiet is given. With --dir each mail becomes a file
// of its own there, byte for byte as it came, and is on the disk under its
// name before the client is answered 250: what was answered 250 has arrived.
// The files of unfinished mails begin with a dot. TERM and INT end it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "mailsink:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done. A mail that is being written then is written
// to its end, or removed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("mailsink", flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:0", "`address` to listen on; port 0 is a free one")
	dir := fs.String("dir", "", "`directory` for the mails; without one they are thrown away")
	quiet := fs.Bool("quiet", false, "print nothing but the address")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is left over", fs.Arg(0))
	}
	if *dir != "" {
		if err := os.MkdirAll(*dir, 0o700); err != nil {
			return fmt.Errorf("cannot make a place for the mails: %w", err)
		}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	fmt.Fprintln(stdout, l.Addr())

	s := &sink{dir: *dir, told: log.New(stdout, "", 0)}
	complaints := log.New(stderr, "mailsink: ", 0)
	if *quiet {
		s.told.SetOutput(io.Discard)
		complaints.SetOutput(io.Discard) // of clients that have broken off, say
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &session{sink: s}, nil
	}))
	server.Domain = "mailsink"
	server.EnableSMTPUTF8 = true
	server.MaxLineLength = 0 // every mail is accepted, so also one with long lines
	server.ErrorLog = complaints
	defer context.AfterFunc(ctx, func() {
		server.Close()
		l.Close() // which the server does not know before it serves
	})()
	err = server.Serve(l)
	server.Close()
	s.writing.Lock() // for good: no mail is begun any more
	return err
}

// A sink takes mails.
type sink struct {
	dir     string
	told    *log.Logger
	count   atomic.Int64
	writing sync.RWMutex // held for reading by those who write a mail
}

// A session is one client's.
type session struct {
	*sink
	from string
	to   []string
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

// Data takes a mail; the client is answered 250 if it returns nil.
func (s *session) Data(r io.Reader) error {
	s.writing.RLock()
	defer s.writing.RUnlock()
	n := s.count.Add(1)
	size, name, err := s.keep(n, r)
	if err != nil {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not kept: " + err.Error()}
	}
	s.told.Printf("mail %d: %d bytes from <%s> to <%s> %s", n, size, s.from, strings.Join(s.to, ">, <"), name)
	return nil
}

// keep returns when r is on the disk under its name, or when nothing of it is
// left. Without a directory it only reads r.
func (s *sink) keep(n int64, r io.Reader) (size int64, name string, err error) {
	if s.dir == "" {
		size, err = io.Copy(io.Discard, r)
		return size, "", err
	}
	f, err := os.CreateTemp(s.dir, ".mail-*")
	if err != nil {
		return 0, "", err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if size, err = io.Copy(f, r); err != nil {
		return 0, "", err
	}
	if err = f.Sync(); err != nil {
		return 0, "", err
	}
	// In the order of arrival, and unique even if several sinks share dir.
	name = filepath.Join(s.dir, fmt.Sprintf("%d-%d-%06d.eml", time.Now().UnixNano(), os.Getpid(), n))
	if err = os.Rename(f.Name(), name); err != nil {
		return 0, "", err
	}
	if err = syncDir(s.dir); err != nil {
		os.Remove(name)
	}
	return size, name, err
}

// syncDir makes a new name in dir outlive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
