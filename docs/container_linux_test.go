package docs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// A container is what docs/uses.md makes: there is no Docker here, so a root of
// Debian's (scripts/test -f has it made by mmdebstrap, with openssh-client) becomes
// what the Dockerfile says, and is run in namespaces of its own, but for the
// network.
type container struct {
	*guide
	root string
	user string
	argv []string
}

// aptGet stands for the real one, as there is no network: what it is to install
// has to be there.
const aptGet = `#!/bin/sh
[ "$1" = install ] || exit 0
for package; do
	case $package in install | -*) ;; *) dpkg --status "$package" >/dev/null || exit 1 ;; esac
done
`

// build does what the page's Dockerfile says.
func (c *container) build(t *testing.T, dockerfile string) {
	t.Helper()
	testbed.Run(t, "tar", "-C", c.root, "-xf", testbed.Fetched(t, "container.tar"))
	testbed.Write(t, c.root+"/usr/local/sbin/apt-get", aptGet)
	testbed.Run(t, "chmod", "755", c.root+"/usr/local/sbin/apt-get")
	for l := range strings.Lines(strings.ReplaceAll(dockerfile, "\\\n", "")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		switch word {
		case "FROM":
			if rest != "debian:stable-slim" {
				t.Fatalf("the root is Debian's stable, not %s", rest)
			}
		case "RUN":
			rest = strings.Replace(rest, "--uid 1000 ", fmt.Sprintf("--uid %d ", testbed.UidOf(t, "me")), 1)
			c.Run(t, 0, "chroot", c.root, "sh", "-ec", rest)
		case "COPY":
			testbed.Run(t, "dpkg-deb", "-x", c.deb(t), c.root+"/package")
			testbed.Run(t, "cp", c.root+"/package/usr/bin/minimail", c.root+strings.Fields(rest)[1])
		case "USER":
			c.user = rest
		case "ENTRYPOINT", "CMD":
			var argv []string
			if err := json.Unmarshal([]byte(rest), &argv); err != nil {
				t.Fatal(err)
			}
			c.argv = append(c.argv, argv...)
		case "WORKDIR", "EXPOSE", "":
		default:
			t.Fatalf("unknown: %s", l)
		}
	}
}

// mounts are what the page's docker run has mounted.
func (c *container) mounts(t *testing.T, page string) {
	t.Helper()
	all := regexp.MustCompile(`-v (/home/me\S+):(/\S+):ro`).FindAllStringSubmatch(page, -1)
	if len(all) != 2 {
		t.Fatalf("mounts: %q", all)
	}
	for _, m := range append(all, []string{"", "/etc/hosts", "/etc/hosts"}) {
		testbed.Write(t, c.root+m[2], "")
		c.Run(t, 0, "mount", "--bind", m[1], c.root+m[2])
		t.Cleanup(func() { c.Run(t, 0, "umount", c.root+m[2]) })
	}
}

// start runs it, process 1 of its own, as Docker would without --init.
func (c *container) start(t *testing.T) (cmd *exec.Cmd, said *testbed.Words) {
	t.Helper()
	line := `mount -t proc proc "$1/proc" && exec chroot --userspec="$2" "$1" env -i HOME="/home/$2" PATH=/usr/local/bin:/usr/bin:/bin "${@:3}"`
	cmd = exec.Command("unshare", append([]string{"--mount", "--pid", "--ipc", "--fork", "--kill-child", "bash", "-c", line, "bash", c.root, c.user}, c.argv...)...)
	said = new(testbed.Words)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("the container says:\n%s", said)
		}
	})
	said.Wait(t, "listening")
	return cmd, said
}

// parentOf is a process's, and its state; 0 if there is no such process.
func parentOf(pid int) (parent int, state string) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(b), ") ")
	_, _ = fmt.Sscan(after, &state, &parent)
	return parent, state
}

// firstOf is process 1 of the container that cmd has started, as we see it.
func firstOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	for _, pid := range testbed.CommandsWith("minimail\x00-X\x00--settings\x00/dev/null") {
		if parent, _ := parentOf(pid); parent == cmd.Process.Pid {
			return pid
		}
	}
	t.Fatal("the container has no process 1")
	return 0
}

// reaps: process 1 inherits what has lost its parent, and reaps it.
func (c *container) reaps(t *testing.T, first int) {
	t.Helper()
	fifo := filepath.Join(c.root, "fifo")
	c.Run(t, 0, "mkfifo", fifo)
	c.Run(t, 0, "nsenter", "--target", fmt.Sprint(first), "--pid", "sh", "-c", "sh -c 'read x; exit 7' orphan >/dev/null 2>&1 <>"+fifo+" &")
	var orphan int
	testbed.Eventually(t, "process 1 has an orphan", func() bool {
		for _, pid := range testbed.CommandsWith("exit 7\x00orphan") {
			if parent, _ := parentOf(pid); parent == first {
				orphan = pid
			}
		}
		return orphan != 0
	})
	testbed.Write(t, fifo, "go\n")
	testbed.Eventually(t, "the orphan is reaped", func() bool { _, state := parentOf(orphan); return state == "" })
}

func TestTheContainerOfThePageSendsReapsAndEnds(t *testing.T) {
	t.Parallel()
	page := testbed.Read(t, "docs/uses.md")
	dockerfile := ""
	for _, b := range pageBlocks(t, "docs/uses.md") {
		if strings.HasPrefix(b.lines[0], "FROM ") {
			dockerfile = strings.TrimSpace(strings.Join(b.lines, "\n"))
		}
	}
	if n := strings.Count(dockerfile, "\n") + 1; n > 12 {
		t.Errorf("the Dockerfile has %d lines", n)
	}
	testbed.Fetched(t, "container.tar")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		g := newGuide(t, m)
		g.typesAll(t, []string{"ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519", "ssh-copy-id me@host.example.com"})
		c := &container{guide: g, root: testbed.PublicDir(t)}
		c.build(t, dockerfile)
		c.mounts(t, page)
		cmd, said := c.start(t)
		g.me.Types(t, `printf 'Subject: hello\n\nFrom a container.\n' | msmtp --host=127.0.0.1 --port=2525 --from=me@example.com you@example.com`)
		g.hasMail(t, "From a container.")

		first := firstOf(t, cmd)
		c.reaps(t, first)
		if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("at TERM: %v", err)
		}
		if !said.Has("stopped") {
			t.Error("it has not ended by itself")
		}
	})
}
