package docs_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// The mail programs of docs/mail.md, each with the file that the page shows,
// unchanged, where the page says that it goes. Those with a queue are in
// mailqueues_linux_test.go.

// A mailProgram sends mail.txt, or text.txt as a mail with a header of its own,
// to recipient.
type mailProgram struct {
	name  string
	line  string // a command line of the page
	says  string // before the 421 that it shows
	loud  string // the line's beginning that has it shown, if it is another
	file  string // of docs/mail, and
	place string // where it goes; "" if the machine has it already
	kept  string // where it leaves the text of a mail that has not left
	exit  int    // its status then, as the page's table has it
}

var mailPrograms = []mailProgram{
	{name: "msmtp", line: "msmtp you@example.com < mail.txt", says: "msmtp: server message: ", exit: 76},
	{name: "sendmail", line: "/usr/sbin/sendmail -i you@example.com < mail.txt", says: "sendmail: server message: ", exit: 76},
	{name: "mailx", line: mailxToRoot, says: "sendmail: server message: ", kept: "dead.letter", exit: 1},
	{name: "s-nail", line: "s-nail -s 'a subject' you@example.com < text.txt", says: "s-nail: SMTP server: ",
		file: "s-nail.rc", place: "~/.mailrc", kept: "dead.letter", exit: 4},
	{name: "git", line: "git send-email --to=you@example.com -1", says: "<<< ", loud: "git send-email --smtp-debug=1",
		file: "gitconfig", place: "~/.gitconfig", exit: 255},
	{name: "swaks", line: "swaks --to you@example.com --header 'Subject: a subject' --body - < text.txt", says: "<** ",
		file: "swaksrc", place: "~/.swaksrc", exit: 21},
	{name: "curl", line: "curl -K ~/mail.curlrc --mail-rcpt you@example.com < mail.txt", says: "< ", loud: "curl -v",
		file: "mail.curlrc", place: "~/mail.curlrc", exit: 8},
	{name: "python", line: "~/send.py you@example.com 'a subject' < text.txt", says: "send.py: not sent: ",
		file: "send.py", place: "~/send.py", exit: 1},
}

// mailxToRoot works with any sendmail.
const mailxToRoot = "mail -s 'a subject' root < text.txt"

// cronsLine is what Debian's cron does with what a job of root's has said.
const cronsLine = `printf 'From: root (Cron Daemon)\nTo: root\nSubject: a job\n\nhello\n' |
	/usr/sbin/sendmail -FCronDaemon -i -B8BITMIME -oem root`

// newMSMTPOffice is one with programs that have no queue.
func newMSMTPOffice(t *testing.T) *postOffice {
	t.Helper()
	p := newPostOffice(t, "msmtp")
	p.copy(t, "msmtprc", "/etc/msmtprc")
	p.copy(t, "aliases", "/etc/aliases")
	return p
}

// settle gives a program a home of its own, in which it finds its file and
// something to send.
func (p *postOffice) settle(t *testing.T, c mailProgram) (home string) {
	t.Helper()
	home = p.home(t, c.name)
	if c.file != "" {
		p.copy(t, c.file, strings.Replace(c.place, "~", home, 1))
	}
	if c.name == "git" {
		p.do(t, home, "git config --global user.name Me && git config --global user.email "+sender+
			` && git init -q . && git add text.txt && printf 'a subject\n\n' | cat - text.txt | git commit -q --cleanup=verbatim -F -`)
	}
	return home
}

func TestEachMailProgramOfTheGuideSendsAMailWhole(t *testing.T) {
	t.Parallel()
	p := newMSMTPOffice(t)
	for _, c := range mailPrograms {
		p.do(t, p.settle(t, c), c.line)
		p.brings(t, c.name, mailText)
	}
	p.do(t, "/", cronsLine)
	p.brings(t, "cron", "hello\n")
}

func TestAMailProgramWithoutAQueueShowsWhyAMailDoesNotLeave(t *testing.T) {
	t.Parallel()
	p := newMSMTPOffice(t)
	p.Host.Stop()
	type run struct {
		mailProgram
		home string
		cmd  *exec.Cmd
		said bytes.Buffer
	}
	var runs []*run
	for _, c := range mailPrograms {
		r := &run{mailProgram: c, home: p.settle(t, c)}
		line := c.line
		if c.loud != "" {
			quiet := c.loud[:strings.LastIndexByte(c.loud, ' ')]
			line = strings.Replace(line, quiet, c.loud, 1)
		}
		r.cmd = p.command(r.home, line)
		r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
		if err := r.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	for _, r := range runs {
		_ = r.cmd.Wait()
		told := regexp.MustCompile(regexp.QuoteMeta(r.says) + `421 \S+ minimail: no tunnel to far: .*Connection refused`)
		if r.cmd.ProcessState.ExitCode() != r.exit || !told.Match(r.said.Bytes()) {
			t.Errorf("%s: %s, and says:\n%s", r.name, r.cmd.ProcessState, &r.said)
		}
		if r.kept != "" && !strings.Contains(testbed.Read(t, filepath.Join(r.home, r.kept)), "\nThe last line.") {
			t.Errorf("%s has not kept the text", r.name)
		}
	}
	p.Host.Start(t)
	p.minimail.Forgets(t)
	p.do(t, runs[0].home, runs[0].line) // once more, by hand
	p.brings(t, runs[0].name, mailText)
	if n := len(p.arrived); n > 0 {
		t.Errorf("%d mails were sent again", n)
	}
}
