package docs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// The addresses in the files of docs/mail.
const (
	sender    = "me@example.com"
	recipient = "you@example.com"
)

// mailText is what a mail program might damage, and mailHeader what comes before
// it if the program makes none.
var (
	mailText = "A line.\n\n.\n..\n.a dot first\nFrom the first column: Grüße, 世界\n" +
		strings.Repeat("0123456789", 90) + "\nThe last line.\n"
	mailHeader = "From: Me <" + sender + ">\nTo: " + recipient + "\nSubject: a subject\nMIME-Version: 1.0\n" +
		"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
)

// A postOffice is a throwaway machine with Debian's mail programs, and minimail
// on its port 25 in front of a real sshd.
type postOffice struct {
	*testbed.Machine
	guide    string // a copy of docs/mail
	minimail *testbed.Minimail
	arrived  chan delivery
}

// A delivery is a mail as the far server got it.
type delivery struct {
	from string
	to   []string
	text string
}

// newPostOffice unpacks packages on a machine of the test's own. They are not
// installed, because mail servers exclude each other; and on the real machine
// nothing of them is ever to be seen or started.
func newPostOffice(t *testing.T, packages string) *postOffice {
	t.Helper()
	return newPostOfficeBefore(t, packages, func(p *postOffice) string {
		return testbed.Listen(t, func(c net.Conn) { p.hears(t, c) })
	})
}

// hears is the far mail server.
func (p *postOffice) hears(t *testing.T, c net.Conn) {
	heard := &wire{Conn: c}
	testbed.SpeakSMTP(heard, func(string) { p.arrived <- heard.delivery(t) })
}

// newPostOfficeBefore is one whose mail goes to the server that far starts.
func newPostOfficeBefore(t *testing.T, packages string, far func(*postOffice) string) *postOffice {
	t.Helper()
	debs := testbed.Debs(t, packages)
	guide := filepath.Join(testbed.PublicDir(t), "mail")
	testbed.Run(t, "cp", "-r", "docs/mail", guide)
	testbed.OwnNetwork(t)
	p := &postOffice{Machine: testbed.OwnMachine(t), guide: guide, arrived: make(chan delivery, 10)}
	t.Cleanup(func() {
		for _, pid := range p.processes("") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	p.Run(t, 0, "rm", "-rf", "/var/spool/nullmailer", "/var/spool/dma", "/etc/nullmailer", "/etc/dma") // if this machine has them
	unpack := []string{"-ec", `for deb; do
		dpkg --fsys-tarfile "$deb" | tar -C / -xp --keep-directory-symlink
	done`, "sh"}
	testbed.Run(t, "sh", append(unpack, debs...)...)
	p.Run(t, 0, "ln", "-sf", "bsd-mailx", "/usr/bin/mail") // as its postinst does
	testbed.Write(t, "/etc/mailname", "desktop.example.com\n")
	at := far(p)
	p.minimail = p.Host.Prepare(t, at, "--forward", fmt.Sprintf("25:%d:%s", testbed.FreePort(t), at),
		"--forward", fmt.Sprintf("2525:%d:%s", testbed.FreePort(t), at), "--wait", "20") // swaks gives up after 30 s
	p.minimail.Start(t)
	return p
}

// A wire remembers what a client has said since its last mail.
type wire struct {
	net.Conn
	said bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.said.Write(b[:n])
	return n, err
}

var (
	mailFrom = regexp.MustCompile(`(?im)^mail from: *<(.*?)>`)
	rcptTo   = regexp.MustCompile(`(?im)^rcpt to: *<(.*?)>`)
	data     = regexp.MustCompile(`(?im)^data\r\n`)
)

// delivery is the mail that has just been said.
func (w *wire) delivery(t *testing.T) delivery {
	all := w.said.String()
	w.said.Reset()
	at := data.FindStringIndex(all)
	envelope, lines := all[:at[0]], textproto.NewReader(bufio.NewReader(strings.NewReader(all[at[1]:])))
	m, err := mail.ReadMessage(lines.DotReader())
	if err != nil {
		t.Error(err)
		return delivery{}
	}
	body := m.Body
	if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	d := delivery{text: string(text)}
	if from := mailFrom.FindStringSubmatch(envelope); from != nil {
		d.from = from[1]
	}
	for _, to := range rcptTo.FindAllStringSubmatch(envelope, -1) {
		d.to = append(d.to, to[1])
	}
	return d
}

// brings fails the test unless the next mail is from sender to recipient, with
// the text whole.
func (p *postOffice) brings(t *testing.T, by, text string) {
	t.Helper()
	var d delivery
	select {
	case d = <-p.arrived:
	case <-time.After(2 * testbed.Patience):
		t.Fatalf("no mail has arrived by %s", by)
	}
	if d.from != sender || !slices.Equal(d.to, []string{recipient}) {
		t.Errorf("%s: from %s to %v, want from %s to %s", by, d.from, d.to, sender, recipient)
	}
	got, _, _ := strings.Cut(d.text, "\n---\n text.txt") // git has its patch there
	if strings.TrimRight(got, "\n") != strings.TrimRight(text, "\n") {
		t.Errorf("%s has brought\n%q, want\n%q", by, d.text, text)
	}
}

// home is a new home of the owner's, with something to send.
func (p *postOffice) home(t *testing.T, name string) string {
	t.Helper()
	home := filepath.Join("/home", testbed.Owner, name)
	p.Run(t, 0, "mkdir", home)
	testbed.Write(t, home+"/text.txt", mailText)
	testbed.Write(t, home+"/mail.txt", mailHeader+mailText)
	p.Run(t, 0, "chown", "-R", testbed.Owner+":", home)
	return home
}

// copy puts a file of docs/mail where it belongs.
func (p *postOffice) copy(t *testing.T, file, place string) {
	t.Helper()
	p.Run(t, 0, "cp", filepath.Join(p.guide, file), place)
}

// command is a command line of the owner's.
func (p *postOffice) command(home, line string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid="+testbed.Owner, "--regid="+testbed.Owner, "--init-groups", "sh", "-c", line)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "USER=" + testbed.Owner, "LOGNAME=" + testbed.Owner, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
	return cmd
}

func (p *postOffice) do(t *testing.T, home, line string) {
	t.Helper()
	if out, err := p.command(home, line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// processes are those on this machine that run a program, or "" for any.
func (p *postOffice) processes(program string) []int {
	ours, _ := os.Readlink("/proc/thread-self/ns/net")
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range all {
		var pid int
		_, _ = fmt.Sscanf(exe, "/proc/%d/exe", &pid)
		network, _ := os.Readlink(filepath.Dir(exe) + "/ns/net")
		runs, _ := os.Readlink(exe)
		if network == ours && pid != os.Getpid() && (program == "" || filepath.Base(runs) == program) {
			pids = append(pids, pid)
		}
	}
	return pids
}

var endOfBlock = regexp.MustCompile(`^\n[^\s]`)

// TestTheGuideOnMailProgramsShowsWhatIsTested: each file, as a block of its own
// under a link to it, and each command line.
func TestTheGuideOnMailProgramsShowsWhatIsTested(t *testing.T) {
	page := testbed.Read(t, "docs/mail.md")
	err := fs.WalkDir(os.DirFS("docs"), "mail", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var block strings.Builder
		for line := range strings.Lines(testbed.Read(t, filepath.Join("docs", name))) {
			if line != "\n" {
				block.WriteString("    ")
			}
			block.WriteString(line)
		}
		_, below, linked := strings.Cut(page, "]("+name+")")
		if !linked {
			t.Errorf("no link to %s", name)
		} else if _, after, shown := strings.Cut(below, "\n\n"+block.String()); !shown || !endOfBlock.MatchString(after) {
			t.Errorf("not shown as it is below its link: %s", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var want []string
	for _, c := range mailPrograms {
		want = append(want, c.line, c.says+"421 desktop minimail: no tunnel to me@host.example.com: ", c.loud, c.place, c.kept)
	}
	for _, text := range want {
		if !strings.Contains(page, text) {
			t.Errorf("not on the page: %s", text)
		}
	}
}
