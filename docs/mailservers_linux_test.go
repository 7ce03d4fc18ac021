package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// The mail servers that docs/mail.md has lines for: each with its line, and
// without, when it takes localhost for itself; and what has it try again at
// once what the host was not there for.

// A mailServer hands all mail to localhost, or, with the page's line, to minimail.
type mailServer struct {
	name     string
	debs     string
	accounts string // as its package makes them
	file     string // its configuration, in which SETTING stands for the line
	conf     string
	line     string // of the page, and what is there without it
	bare     string
	start    string
	reload   string
	send     string // reads a mail
	refuses  string // what has it said, then, and
	log      string // where
	atWork   string // where the mails are that it is sending; "" if send waits for that
	again    string // of the page: tries what is in the queue
}

const sendmailLine = "printf 'Subject: subject\\n\\ntext\\n' | "

var mailServers = []mailServer{
	{
		name:     "Exim",
		debs:     "tls",
		accounts: "useradd -r Debian-exim; mkdir -p /var/spool/exim4 /var/log/exim4; chown -R Debian-exim: /var/spool/exim4 /var/log/exim4",
		file:     "/etc/exim4/exim4.conf",
		// what counts of Debian's for a satellite
		conf: `primary_hostname = desktop.example.com
keep_environment =
begin routers
smarthost:
  driver = manualroute
  domains = *
  transport = remote_smtp
  route_list = * localhost byname
  SETTING
begin transports
remote_smtp:
  driver = smtp
  hosts_avoid_tls = *
begin retry
* * F,2h,15m
`,
		line:    "self = send",
		bare:    "self = freeze", // Exim's default
		send:    "exim4 -odi -f me@example.com you@example.com",
		refuses: "remote host address is the local host",
		log:     "/var/log/exim4/mainlog",
		start:   ":",
		reload:  ":",
		again:   "exim4 -qff",
	},
	{
		name: "Postfix",
		debs: "postfix",
		accounts: "useradd -r postfix; groupadd -r postdrop; mkdir -p /var/lib/postfix /var/spool/postfix; chown postfix /var/lib/postfix; " +
			"mv /usr/share/postfix/* /etc/postfix/; sed -e 's/^smtp *inet .*//' -e 's/^\\([a-z].*\\) y  /\\1 n  /' /etc/postfix/master.cf.dist >/etc/postfix/master.cf",
		file: "/etc/postfix/main.cf",
		conf: `compatibility_level = 3.6
myhostname = desktop.example.com
mydestination =
inet_interfaces = loopback-only
alias_maps =
maillog_file = /var/log/postfix.log
SETTING
`,
		line:    "relayhost = [127.0.0.1]:2525",
		bare:    "relayhost = [127.0.0.1]",
		start:   "postfix set-permissions; postfix start",
		reload:  "postfix reload",
		send:    "sendmail -f me@example.com you@example.com",
		refuses: "loops back to myself",
		log:     "/var/log/postfix.log",
		atWork:  "/var/spool/postfix/active",
		again:   "postqueue -f",
	},
}

func TestMailServersTakeLocalhostForThemselvesWithoutThePagesLine(t *testing.T) {
	t.Parallel()
	page := testbed.Read(t, "docs/mail.md")
	for _, s := range mailServers {
		t.Run(s.name, func(t *testing.T) {
			if !strings.Contains(page, "\n    "+s.line+"\n") || !strings.Contains(page, "`"+s.again+"`") {
				t.Errorf("not on the page: %s, or %s", s.line, s.again)
			}
			p := newPostOfficeBefore(t, s.debs, offersTLS(t))
			p.sh(t, s.accounts)
			s.uses(t, p, s.bare, s.start)
			p.sh(t, sendmailLine+s.send)
			testbed.Eventually(t, s.name+" says "+s.refuses, func() bool { return strings.Contains(logOf(s.log), s.refuses) })
			if len(p.arrived) > 0 {
				t.Error("it sends without the line")
			}

			s.uses(t, p, s.line, s.reload)
			p.sh(t, sendmailLine+s.send)
			p.brings(t, s.name, "")
			p.minimail.Down(t)

			p.Host.Stop()
			p.turnsAway(t, func() { p.sh(t, sendmailLine+s.send) })
			testbed.Eventually(t, s.name+" keeps the mail", func() bool { return strings.Contains(logOf(s.log), " minimail: no tunnel to far: ") })
			testbed.Eventually(t, s.name+" has let go of it", func() bool { return s.atWork == "" || p.isLeftAlone(s.atWork) })
			p.Host.Start(t)
			p.minimail.Forgets(t)
			p.sh(t, s.again)
			p.brings(t, s.again, "")
		})
	}
}

// uses configures the server with a line, and has it know.
func (s *mailServer) uses(t *testing.T, p *postOffice, line, command string) {
	t.Helper()
	testbed.Write(t, s.file, strings.Replace(s.conf, "SETTING", line, 1))
	p.sh(t, command)
}

// sh runs a line that may leave a daemon, which would keep our pipe.
func (p *postOffice) sh(t *testing.T, line string) {
	t.Helper()
	p.Run(t, 0, "sh", "-c", "{ "+line+"\n} </dev/null >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }")
}

// isLeftAlone reports whether no mail is in a queue, and none that was there is held
// by a program: Postfix passes over one that is.
func (p *postOffice) isLeftAlone(queue string) bool {
	if len(spooled(queue+"/*")) > 0 {
		return false
	}
	for _, pid := range p.processes("smtp") {
		for _, fd := range spooled(fmt.Sprintf("/proc/%d/fd/*", pid)) {
			if file, _ := os.Readlink(fd); strings.HasPrefix(file, filepath.Dir(queue)+"/deferred/") {
				return false
			}
		}
	}
	return true
}

// logOf is what is in a log that may not be there yet.
func logOf(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}
