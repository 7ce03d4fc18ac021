//go:build linux

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSettingUpIsAsThePageSays types what docs/setup.md says.
func TestSettingUpIsAsThePageSays(t *testing.T) {
	t.Parallel()
	page := pageBlocks(t, "docs/setup.md")
	onMachine(t, func(t *testing.T, m *machine) {
		g := newGuide(t, m)
		g.follow(t, page)
		g.hasMail(t, "It works.")
	})
}

// TestTheReadmesFiveMinutesEndWithAMail types what the README says, all of
// which docs/setup.md explains; but for how to build it.
func TestTheReadmesFiveMinutesEndWithAMail(t *testing.T) {
	explained := ""
	for _, b := range pageBlocks(t, "docs/setup.md") {
		for _, s := range b.steps() {
			explained += s.command + "\n"
		}
	}
	readme := fiveMinutes(t)
	if len(readme) < 9 {
		t.Errorf("only this is to type in the README: %q", readme)
	}
	for _, command := range readme {
		if !strings.Contains(explained, command+"\n") {
			t.Errorf("not in docs/setup.md: %s", command)
		}
	}
	onMachine(t, func(t *testing.T, m *machine) {
		g := newGuide(t, m)
		g.me.types(t, "sudo apt install ./minimail_*_amd64.deb")
		for _, command := range readme {
			t.Logf("$ %s\n%s", command, g.me.types(t, command))
		}
		g.hasMail(t, "It works.")
		if links := g.links(t); len(links) == 0 {
			t.Error("it is not started at boot")
		}
	})
}

// fiveMinutes is what the README has one type after building.
func fiveMinutes(t *testing.T) (commands []string) {
	t.Helper()
	_, readme, _ := strings.Cut(read(t, "README.md"), "## Five minutes")
	readme, _, _ = strings.Cut(readme, "\n## ")
	goesOn := false
	for l := range strings.Lines(readme) {
		command, ok := strings.CutPrefix(l, "       ") // in a list
		command = strings.TrimSpace(command)
		switch {
		case !ok, strings.HasPrefix(command, "scripts/package "), strings.HasPrefix(command, "go build "):
		case goesOn:
			commands[len(commands)-1] += "\n" + command
		default:
			commands = append(commands, command)
		}
		goesOn = strings.HasSuffix(command, "|")
	}
	return commands
}

// A guide is what the pages speak of: a person called me at a machine called
// desktop, and host.example.com, where a mail server is.
type guide struct {
	*machine
	me  *person
	far *otherHost
}

func newGuide(t *testing.T, m *machine) *guide {
	t.Helper()
	runtime.LockOSThread() // and never unlock it: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sethostname([]byte("desktop")); err != nil {
		t.Fatal(err)
	}
	write(t, "/etc/hostname", "desktop\n")
	g := &guide{machine: m, me: m.newPerson(t, "me")}
	g.far = g.me.newHost(t, "host.example.com", 0, os.Getpid())
	write(t, "/etc/hosts", "127.0.0.1 localhost desktop\n::1 localhost\n"+g.far.address+" host.example.com\n")
	g.far.serve(t, 25, func(c net.Conn) { speakSMTP(c, func(mail string) { g.mails <- mail }) })
	deb := g.deb(t)
	write(t, filepath.Join(g.me.home, filepath.Base(deb)), read(t, deb))
	return g
}

// deb is the package.
func (g *guide) deb(t *testing.T) string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(packages(t), "*_amd64.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %v, %v", debs, err)
	}
	return debs[0]
}

// hasMail waits until a mail with such words has arrived.
func (g *guide) hasMail(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case mail := <-g.mails:
			if strings.Contains(mail, text) {
				return
			}
		case <-time.After(patience):
			t.Fatalf("no mail with %q has arrived", text)
		}
	}
}

// follow does what a page says, and fails the test where it is not so.
func (g *guide) follow(t *testing.T, page []*block) {
	t.Helper()
	typed := 0
	for _, b := range page {
		if b.file != "" {
			g.me.writes(t, b.file, strings.TrimSpace(strings.Join(b.lines, "\n"))+"\n")
			continue
		}
		after := g.given(t, b)
		for _, s := range b.steps() {
			typed++
			got := g.me.sees(t, s)
			t.Logf("$ %s\n%s", s.command, evened(got))
			if !s.shows(got) {
				t.Errorf("%s, line %d, %q is not as it says: $ %s\n%s", b.page, b.line, b.part, s.command, evened(got))
			}
		}
		after()
	}
	if typed == 0 {
		t.Error("there is nothing to type in the page")
	}
}

// looks are commands that only look at something, which may take a moment to
// be as the page has it: a client is counted after it has left.
var looks = regexp.MustCompile(`^(sudo )?(minimail (.* )?status|grep|ls)\b`)

// sees types a step, and again if it only looks, until it shows what it should.
func (p *person) sees(t *testing.T, s step) string {
	t.Helper()
	got := p.types(t, s.command)
	for deadline := time.Now().Add(patience / 4); looks.MatchString(s.command) && !s.shows(got) && time.Now().Before(deadline); {
		got = p.types(t, s.command)
	}
	return got
}

// writes makes a file of the person's.
func (p *person) writes(t *testing.T, name, text string) {
	t.Helper()
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(p.home, rest)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, name, text)
	for ; strings.HasPrefix(name, p.home+"/"); name = filepath.Dir(name) {
		p.owns(t, name)
	}
}

// given brings about what a block takes for given, and returns what undoes it.
func (g *guide) given(t *testing.T, b *block) (undo func()) {
	t.Helper()
	keys := filepath.Join(g.far.home(g.me), ".ssh/authorized_keys")
	known := filepath.Join(g.me.home, ".ssh/known_hosts")
	switch b.given {
	case "":
		return func() {}
	case "the host takes no passwords":
		back := g.without(t, keys)
		g.far.configure(t, "PasswordAuthentication no", "KbdInteractiveAuthentication no")
		g.far.reload(t)
		return func() {
			back()
			g.far.configure(t)
			g.far.reload(t)
		}
	case "only root has logged in":
		return g.without(t, known)
	case "the host has another key":
		g.far.newKey(t)
		g.far.reload(t)
		return func() {}
	case "permitopen has another name for localhost":
		return g.changed(t, keys, `permitopen="localhost:25"`, `permitopen="127.0.0.1:25"`)
	case "a setting is misspelt":
		return g.changed(t, defaultSettings, "\nMINIMAIL_HOST=", "\nMINIMAIL_HOTS=")
	case "the key has a passphrase":
		file := filepath.Join(g.me.home, ".ssh/minimail")
		command(t, "ssh-keygen", "-q", "-p", "-N", g.me.password, "-f", file)
		g.me.owns(t, file)
		return func() {}
	case "the network is down":
		cable := []string{"ip", "link", "set", "eth0"}
		g.run(t, 0, append(cable, "down")...)
		return func() { g.run(t, 0, append(cable, "up")...) }
	case "exim has port 25":
		return g.exim(t)
	case "the host has forgotten the key":
		back := g.without(t, keys)
		g.run(t, 0, "minimail", "restart")
		return back
	}
	t.Fatalf("%s, line %d: %q is not known", b.page, b.line, b.given)
	return nil
}

// without takes a file away for some time.
func (g *guide) without(t *testing.T, file string) (back func()) {
	t.Helper()
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	}
}

// changed changes a file for some time.
func (g *guide) changed(t *testing.T, file, from, to string) (back func()) {
	t.Helper()
	text := read(t, file)
	if !strings.Contains(text, from) {
		t.Fatalf("%q is not in %s:\n%s", from, file, text)
	}
	write(t, file, strings.Replace(text, from, to, 1))
	return func() { write(t, file, text) }
}

// exim has a program of that name listen where the mail server of the
// distribution does.
func (g *guide) exim(t *testing.T) (stop func()) {
	t.Helper()
	nc, err := exec.LookPath("nc")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(publicDir(t), "exim4")
	write(t, file, read(t, nc))
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "-lkv", "127.0.0.1", "25")
	said := new(words)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said.wait(t, "(?i)listening")
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
