package docs_test

import (
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// TestAtBootIsAsThePageSaysWithSystemdToo types that part of docs/setup.md on a
// machine that systemd has booted, where service(8) says nothing.
func TestAtBootIsAsThePageSaysWithSystemdToo(t *testing.T) {
	testbed.NeedProgram(t, "systemd-nspawn")
	page := pageBlocks(t, "docs/setup.md")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		g := newGuide(t, m)
		for _, command := range []string{
			"sudo apt install ./minimail_*_amd64.deb",
			"ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519",
			"ssh-copy-id me@host.example.com",
			"echo 'MINIMAIL_HOST=me@host.example.com' | sudo tee -a /etc/default/minimail",
		} {
			g.me.Types(t, command)
		}
		g.Run(t, 0, "sh", "-c", "rm -rf /etc/systemd/system/*.wants /lib/systemd/system/multi-user.target.wants")
		systemctl := g.Boot(t)
		g.onContainer(t, "SUDO_USER=me minimail start --idle 10") // without options it would be systemd's
		if got := g.onContainer(t, "systemctl daemon-reload; service minimail start"); !strings.Contains(got, "A dependency job for minimail.service failed") {
			t.Errorf("started beside one that has port 25, the service says %q", got)
		}
		typed := 0
		for _, b := range page {
			for _, s := range b.steps() {
				if b.part != "At boot" {
					continue
				}
				typed++
				if strings.HasPrefix(s.command, "sudo service ") {
					s.seen = ""
				}
				if got := g.onContainer(t, s.command); !s.shows(got) {
					t.Errorf("%s, line %d, is not as it says: $ %s\n%s", b.page, b.line, s.command, got)
				}
			}
		}
		if typed == 0 {
			t.Error("there is nothing to type")
		}
		if is := systemctl("show", "--property=ActiveState,User,UnitFileState", "minimail"); is != "User=me\nActiveState=active\nUnitFileState=enabled-runtime\n" {
			t.Errorf("the service is\n%s", is)
		}
		g.me.Types(t, `printf 'Subject: hello\n\nIt works.\n' | msmtp --host=localhost --from=me@example.com you@example.com`)
		g.hasMail(t, "It works.")
	})
}

// onContainer has a shell run a command in the container that boot has booted.
func (g *guide) onContainer(t *testing.T, command string) string {
	t.Helper()
	out, _ := g.Inside("sh", "-c", command) // what it says counts
	return out
}
