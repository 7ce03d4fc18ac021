package docs_test

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

	"minimail/internal/testbed"
)

// TestSettingUpIsAsThePageSays types what docs/setup.md says.
func TestSettingUpIsAsThePageSays(t *testing.T) {
	t.Parallel()
	page := pageBlocks(t, "docs/setup.md")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		g := newGuide(t, m)
		g.follow(t, page)
		g.hasMail(t, "It works.")
	})
}

// TestTheReadmesFiveMinutesEndWithAMail types what the README says, in a fresh
// clone, by either way of its first step, and prints how long the first one
// takes: Go and its modules are there, and nothing is built yet.
func TestTheReadmesFiveMinutesEndWithAMail(t *testing.T) {
	explained := ""
	for _, b := range pageBlocks(t, "docs/setup.md") {
		for _, s := range b.steps() {
			explained += s.command + "\n"
		}
	}
	readme := fiveMinutes(t)
	if len(readme) < 11 {
		t.Fatalf("only this is to type in the README: %q", readme)
	}
	ways, rest := readme[:2], readme[2:]
	for _, command := range rest {
		if !strings.Contains(explained, command+"\n") {
			t.Errorf("not in docs/setup.md: %s", command)
		}
	}
	root := testbed.Run(t, "pwd", "-P")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		g := newGuide(t, m)
		g.clone(t, strings.TrimSpace(root))
		for i, way := range ways {
			began := time.Now()
			g.typesAll(t, append([]string{"cd minimail && " + way}, rest...))
			g.hasMail(t, "It works.")
			if links := g.Links(t); len(links) == 0 {
				t.Error("it is not started at boot")
			}
			if i == 0 {
				t.Logf("stopwatch: the README's five minutes took %s", time.Since(began).Round(time.Second))
			}
			g.typesAll(t, []string{"sudo minimail stop", "sudo apt purge minimail"})
			if testbed.Exists("/etc/default/minimail") != (i > 0) {
				t.Error("of the two ways, purge removes the settings of the package alone")
			}
		}
	})
}

// typesAll types one command after the other.
func (g *guide) typesAll(t *testing.T, commands []string) {
	t.Helper()
	for _, command := range commands {
		t.Logf("$ %s\n%s", command, g.me.Types(t, command))
	}
}

// clone gives the person a clone of the repository at root, and a Go with its modules.
func (g *guide) clone(t *testing.T, root string) {
	t.Helper()
	modules := strings.TrimSpace(testbed.Run(t, "go", "env", "GOMODCACHE"))
	for dir := modules; dir != "/"; dir = filepath.Dir(dir) { // root's home, perhaps
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.Run(t, 0, "mkdir", "-p", "/usr/local/bin")
	g.Run(t, 0, "ln", "-sf", filepath.Join(strings.TrimSpace(testbed.Run(t, "go", "env", "GOROOT")), "bin/go"), "/usr/local/bin/go")
	g.me.Writes(t, "~/.config/go/env", "GOMODCACHE="+modules+"\nGOPROXY=off\nGOTOOLCHAIN=local\n"+
		"GOFLAGS=-trimpath\n") // as scripts/package has it, so that the second way finds most of it built
	dir := filepath.Join(g.me.Home, "minimail")
	g.Run(t, 0, "git", "-c", "safe.directory=*", "clone", "-q", root, dir)
	g.Run(t, 0, "chown", "-R", "me:", dir)
}

// fiveMinutes is what the README has one type.
func fiveMinutes(t *testing.T) (commands []string) {
	t.Helper()
	_, readme, _ := strings.Cut(testbed.Read(t, "README.md"), "## Five minutes")
	readme, _, _ = strings.Cut(readme, "\n## ")
	goesOn := false
	for l := range strings.Lines(readme) {
		command, ok := strings.CutPrefix(l, "       ") // in a list
		command = strings.TrimSpace(command)
		switch {
		case !ok:
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
	*testbed.Machine
	me  *testbed.Person
	far *testbed.FarHost
}

func newGuide(t *testing.T, m *testbed.Machine) *guide {
	t.Helper()
	runtime.LockOSThread() // and never unlock it: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sethostname([]byte("desktop")); err != nil {
		t.Fatal(err)
	}
	testbed.Write(t, "/etc/hostname", "desktop\n")
	g := &guide{Machine: m, me: m.NewPerson(t, "me")}
	g.far = g.me.NewHost(t, "host.example.com", 0, os.Getpid())
	testbed.Write(t, "/etc/hosts", "127.0.0.1 localhost desktop\n::1 localhost\n"+g.far.Address+" host.example.com\n")
	g.far.Serve(t, 25, func(c net.Conn) { testbed.SpeakSMTP(c, func(mail string) { g.Mails <- mail }) })
	deb := g.deb(t)
	testbed.Write(t, filepath.Join(g.me.Home, filepath.Base(deb)), testbed.Read(t, deb))
	return g
}

// deb is the package.
func (g *guide) deb(t *testing.T) string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(testbed.Packages(t), "*_amd64.deb"))
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
		case mail := <-g.Mails:
			if strings.Contains(mail, text) {
				return
			}
		case <-time.After(testbed.Patience):
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
			g.me.Writes(t, b.file, strings.TrimSpace(strings.Join(b.lines, "\n"))+"\n")
			continue
		}
		after := g.given(t, b)
		for _, s := range b.steps() {
			typed++
			got := sees(t, g.me, s)
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
func sees(t *testing.T, p *testbed.Person, s step) string {
	t.Helper()
	got := p.Types(t, s.command)
	for deadline := time.Now().Add(testbed.Patience / 4); looks.MatchString(s.command) && !s.shows(got) && time.Now().Before(deadline); {
		got = p.Types(t, s.command)
	}
	return got
}

// given brings about what a block takes for given, and returns what undoes it.
func (g *guide) given(t *testing.T, b *block) (undo func()) {
	t.Helper()
	keys := filepath.Join(g.far.Home(g.me), ".ssh/authorized_keys")
	known := filepath.Join(g.me.Home, ".ssh/known_hosts")
	switch b.given {
	case "":
		return func() {}
	case "the host takes no passwords":
		back := g.without(t, keys)
		g.far.Configure(t, "PasswordAuthentication no", "KbdInteractiveAuthentication no")
		g.far.Reload(t)
		return func() {
			back()
			g.far.Configure(t)
			g.far.Reload(t)
		}
	case "only root has logged in":
		return g.without(t, known)
	case "the host has another key":
		g.far.NewKey(t)
		g.far.Reload(t)
		return func() {}
	case "permitopen has another name for localhost":
		return g.changed(t, keys, `permitopen="localhost:25"`, `permitopen="127.0.0.1:25"`)
	case "a setting is misspelt":
		return g.changed(t, testbed.SettingsFile, "\nMINIMAIL_HOST=", "\nMINIMAIL_HOTS=")
	case "the key has a passphrase":
		file := filepath.Join(g.me.Home, ".ssh/minimail")
		testbed.Run(t, "ssh-keygen", "-q", "-p", "-N", g.me.Password, "-f", file)
		g.me.Owns(t, file)
		return func() {}
	case "the network is down":
		cable := []string{"ip", "link", "set", "eth0"}
		g.Run(t, 0, append(cable, "down")...)
		return func() { g.Run(t, 0, append(cable, "up")...) }
	case "exim has port 25":
		return g.exim(t)
	case "the host has forgotten the key":
		back := g.without(t, keys)
		g.Run(t, 0, "minimail", "restart")
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
	text := testbed.Read(t, file)
	if !strings.Contains(text, from) {
		t.Fatalf("%q is not in %s:\n%s", from, file, text)
	}
	testbed.Write(t, file, strings.Replace(text, from, to, 1))
	return func() { testbed.Write(t, file, text) }
}

// exim has a program of that name listen where the mail server of the
// distribution does.
func (g *guide) exim(t *testing.T) (stop func()) {
	t.Helper()
	nc, err := exec.LookPath("nc")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(testbed.PublicDir(t), "exim4")
	testbed.Write(t, file, testbed.Read(t, nc))
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "-lkv", "127.0.0.1", "25")
	said := new(testbed.Words)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said.Wait(t, "(?i)listening")
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
