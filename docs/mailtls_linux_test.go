package docs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	netsmtp "net/smtp"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"minimail/internal/testbed"
)

// Programs that start TLS by themselves find a certificate that is not
// localhost's, when the far server offers STARTTLS. The page says what has them
// leave it.

// A tlsProgram is run twice: as it is, and with the page's setting.
type tlsProgram struct {
	name    string
	setting string // as the page has it
	file    string // the program, if it is one of ours; in it and in line SETTING stands for that
	line    string
	bare    string // in place of the setting, where that is not nothing
}

var tlsPrograms = []tlsProgram{
	{name: "sendEmail", setting: "-o tls=no", line: "sendEmail SETTING -f me@example.com -t you@example.com -u subject -m text -s localhost:25"},
	{name: "mutt", setting: "set ssl_starttls=no ssl_force_tls=no", bare: "set copy=no",
		line: `echo text | mutt -n -F /dev/null -e 'set smtp_url=smtp://localhost from=me@example.com copy=no' -e 'SETTING' -s subject you@example.com`},
	{name: "neomutt", setting: "set ssl_starttls=no ssl_force_tls=no", bare: "set copy=no",
		line: `echo text | neomutt -n -F /dev/null -e 'set smtp_url=smtp://localhost from=me@example.com copy=no' -e 'SETTING' -s subject you@example.com`},
	{name: "aiosmtplib", setting: "start_tls=False", line: "/usr/bin/python3 FILE", file: `
import asyncio, aiosmtplib
from email.message import EmailMessage
m = EmailMessage()
m["From"], m["To"], m["Subject"] = "me@example.com", "you@example.com", "subject"
m.set_content("text")
asyncio.run(aiosmtplib.send(m, hostname="localhost", port=25, SETTING))
`},
	{name: "Nodemailer", setting: "ignoreTLS: true", line: "/usr/bin/node FILE", file: `
require("/usr/share/nodejs/nodemailer").createTransport({host: "127.0.0.1", port: 25, SETTING}).sendMail(
	{from: "me@example.com", to: "you@example.com", subject: "subject", text: "text"}).catch(e => { console.error(e); process.exit(1) });
`},
	{name: "PHPMailer", setting: "$mail->SMTPAutoTLS = false;", line: "/usr/bin/php8.2 FILE", file: `<?php
require "/usr/share/php/libphp-phpmailer/autoload.php";
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP(); $mail->Host = "localhost"; $mail->Port = 25; SETTING
$mail->setFrom("me@example.com"); $mail->addAddress("you@example.com"); $mail->Subject = "subject"; $mail->Body = "text";
$mail->send();
`},
	{name: "Symfony", setting: "smtp://localhost:25?verify_peer=0", bare: "smtp://localhost:25", line: "/usr/bin/php8.2 -d extension=mbstring FILE", file: `<?php
require "/usr/share/php/Symfony/Component/Mailer/autoload.php";
(new Symfony\Component\Mailer\Mailer(Symfony\Component\Mailer\Transport::fromDsn("SETTING")))->send(
	(new Symfony\Component\Mime\Email())->from("me@example.com")->to("you@example.com")->subject("subject")->text("text"));
`},
	{name: "Net::SMTP", setting: "starttls: false", bare: "open_timeout: 30", line: "/usr/bin/ruby FILE", file: `
require "net/smtp"
Net::SMTP.start("localhost", 25, SETTING) { |s| s.send_message("Subject: subject\r\n\r\ntext", "me@example.com", "you@example.com") }
`},
	{name: "ruby-mail", setting: "openssl_verify_mode: 'none'", bare: "open_timeout: 30", line: "/usr/bin/ruby FILE", file: `
require "mail"
Mail.defaults { delivery_method :smtp, address: "localhost", port: 25, SETTING }
Mail.deliver { from "me@example.com"; to "you@example.com"; subject "subject"; body "text" }
`},
	{name: "Go", setting: "smtp.Client", bare: "smtp.SendMail", line: "GOMAIL SETTING"},
	{name: "Emacs", setting: "(setq smtpmail-stream-type 'plain)", line: `emacs-nox -Q --batch --load FILE`, file: `
(require 'smtpmail)
(setq smtpmail-smtp-server "localhost" smtpmail-smtp-service 25 user-mail-address "me@example.com")
SETTING
(with-temp-buffer
  (insert "From: me@example.com\nTo: you@example.com\nSubject: subject\n" mail-header-separator "\ntext\n")
  (smtpmail-send-it))
`},
}

// certificate is one for another name than localhost, signed by nobody.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"host.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A tlsSession takes mails.
type tlsSession struct {
	p *postOffice
	d delivery
}

func (s *tlsSession) Reset()        { s.d = delivery{} }
func (s *tlsSession) Logout() error { return nil }
func (s *tlsSession) Mail(from string, _ *smtp.MailOptions) error {
	s.d.from = from
	return nil
}
func (s *tlsSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.d.to = append(s.d.to, to)
	return nil
}
func (s *tlsSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	s.p.arrived <- s.d
	return err
}

// offersTLS starts a server that offers STARTTLS.
func offersTLS(t *testing.T) func(*postOffice) string {
	return func(p *postOffice) string {
		server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &tlsSession{p: p}, nil }))
		server.Domain, server.TLSConfig = "host.example.com", &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
		server.ErrorLog = quiet{}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		go func() { _ = server.Serve(l) }() // ends when it is closed
		return l.Addr().String()
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func TestProgramsThatStartTLSByThemselvesNeedThePagesSetting(t *testing.T) {
	t.Parallel()
	page := testbed.Read(t, "docs/mail.md")
	p := newPostOfficeBefore(t, "tls", offersTLS(t))
	for _, c := range tlsPrograms {
		if !strings.Contains(page, "`"+strings.ReplaceAll(c.setting, "|", `\|`)+"`") {
			t.Errorf("not on the page: %s", c.setting)
		}
		home := p.home(t, c.name)
		for _, with := range []string{c.bare, c.setting} {
			put := strings.NewReplacer("SETTING", with, "FILE", home+"/program", "GOMAIL", testbed.FakeProgram(t, "gomail"))
			testbed.Write(t, home+"/program", put.Replace(c.file))
			out, err := p.command(home, put.Replace(c.line)).CombinedOutput()
			switch sent := len(p.arrived); {
			case with == c.bare && (err == nil || sent > 0):
				t.Errorf("%s: without the setting it sends %d: %s", c.name, sent, out)
			case with == c.setting && (err != nil || sent != 1):
				t.Errorf("%s: %v, %d mails\n%s", c.name, err, sent, out)
			}
			for len(p.arrived) > 0 {
				if d := <-p.arrived; d.from != sender || len(d.to) != 1 || d.to[0] != recipient {
					t.Errorf("%s: from %s to %v", c.name, d.from, d.to)
				}
			}
		}
	}
}

func init() { testbed.Roles["gomail"] = goMail }

// goMail sends a mail by net/smtp, as its argument says.
func goMail(args []string) int {
	const text = "Subject: subject\r\n\r\ntext\r\n"
	var err error
	if args[0] == "smtp.SendMail" {
		err = netsmtp.SendMail("localhost:25", nil, sender, []string{recipient}, []byte(text))
	} else {
		err = byClient(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// byClient has Hello, Mail, Rcpt, Data and Quit, as the page says.
func byClient(text string) error {
	c, err := netsmtp.Dial("localhost:25")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, step := range []func() error{
		func() error { return c.Hello("localhost") },
		func() error { return c.Mail(sender) },
		func() error { return c.Rcpt(recipient) },
		func() error {
			w, err := c.Data()
			if err == nil {
				_, _ = io.WriteString(w, text) // Close tells
				err = w.Close()
			}
			return err
		},
		c.Quit,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// alertmanagerConf is one with a contact, at once.
const alertmanagerConf = `global:
  smtp_smarthost: localhost:25
  smtp_from: me@example.com
  SETTING
route: {receiver: you, group_wait: 0s}
receivers: [{name: you, email_configs: [{to: you@example.com}]}]
`

func TestAlertmanagerNeedsThePagesSetting(t *testing.T) {
	t.Parallel()
	const setting = "smtp_require_tls: false"
	if !strings.Contains(testbed.Read(t, "docs/mail.md"), "`"+setting+"`") {
		t.Errorf("not on the page: %s", setting)
	}
	p := newPostOfficeBefore(t, "alertmanager", offersTLS(t))
	home := p.home(t, "alerts")
	for _, with := range []string{"", setting} {
		testbed.Write(t, home+"/conf.yml", strings.Replace(alertmanagerConf, "SETTING", with, 1))
		cmd := p.command(home, "exec prometheus-alertmanager --config.file=conf.yml --storage.path=data --cluster.listen-address= --web.listen-address=127.0.0.1:9093")
		said := new(testbed.Words)
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said.Wait(t, "Listening on")
		p.Run(t, 0, "curl", "-sSf", "-H", "Content-Type: application/json", "-d", `[{"labels": {"alertname": "power"}}]`, "http://127.0.0.1:9093/api/v2/alerts")
		if with == "" {
			said.Wait(t, "Notify attempt failed.*x509: certificate")
		} else {
			p.brings(t, "Alertmanager", "")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if len(p.arrived) > 0 {
			t.Errorf("%q: it sends %d mails", with, len(p.arrived))
		}
	}
}
