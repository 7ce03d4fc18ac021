package openssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Files are those that ssh's settings name, and the programs that know them.
type Files struct {
	Config
	Home, User string // on this machine
	Host       string // as ssh is told
	Program    string // ssh's path, beside which the others are; empty: they are in PATH
}

// Name expands one: ~ and the tokens that stand for what is known here
// (ssh_config(5), TOKENS).
func (f Files) Name(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		name = filepath.Join(f.Home, rest)
	}
	return strings.NewReplacer("%%", "%", "%d", f.Home, "%u", f.User, "%r", f.One("user"),
		"%h", f.One("hostname"), "%p", f.One("port"), "%n", f.Host).Replace(name)
}

// Keys are the identity files, a line each.
func (f Files) Keys() (all []string) {
	for _, name := range f.Config["identityfile"] {
		all = append(all, f.Name(name))
	}
	return all
}

// Key is the one to have the host accept: the first that is there, the only one
// that is named, or the usual one.
func (f Files) Key() string {
	all := f.Keys()
	for _, name := range all {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return f.Name("~/.ssh/id_ed25519")
}

// KnownHosts are the user's files of known hosts, and then the machine's.
func (f Files) KnownHosts() (all []string) {
	for _, name := range strings.Fields(f.One("userknownhostsfile") + " " + f.One("globalknownhostsfile")) {
		all = append(all, f.Name(name))
	}
	return all
}

// KeepsHosts reports whether ssh remembers a host that somebody says yes to.
func (f Files) KeepsHosts() bool {
	name, _, _ := strings.Cut(f.One("userknownhostsfile"), " ")
	return name != "" && name != os.DevNull
}

// KnownAs is what the host is called in them, and the one that has a key of it;
// empty: none has. bySignature is that it has only those that may sign one.
func (f Files) KnownAs(ctx context.Context) (host, file string, bySignature bool) {
	host = f.One("hostname")
	if port := f.One("port"); port != "22" {
		host = "[" + host + "]:" + port
	}
	host = cmp.Or(f.One("hostkeyalias"), host)
	for _, file := range f.KnownHosts() {
		if out, _, err := f.ask(ctx, nil, "ssh-keygen", "-F", host, "-f", file); err == nil && out != "" {
			signers := strings.Count(out, "\n@cert-authority ")
			return host, file, signers > 0 && signers == strings.Count(out, "# Host ")
		}
	}
	return host, "", false
}

// Unreadable is a file of known hosts that is there and that ssh may not read, or "".
func (f Files) Unreadable() string {
	for _, name := range f.KnownHosts() {
		if errors.Is(unix.Access(name, unix.R_OK), fs.ErrPermission) {
			return name
		}
	}
	return ""
}

// FIFO is a key, or a file of known hosts, where ssh would wait until somebody writes
// into it, or "".
func (f Files) FIFO() string {
	for _, name := range slices.Concat(f.Keys(), f.KnownHosts()) {
		if fi, err := os.Stat(name); err == nil && fi.Mode()&fs.ModeNamedPipe != 0 {
			return name
		}
	}
	return ""
}

// AsksNobody reports whether ssh takes a host that it does not know.
func (f Files) AsksNobody() bool {
	return slices.Contains([]string{"accept-new", "false", "no", "off"}, f.One("stricthostkeychecking"))
}

// TryKey looks whether a private key can be had without being asked for a
// passphrase, by ssh-keygen, which wants of it what ssh does (load_identity_file
// in ssh-keygen.c): its public one, or ssh-keygen's words.
func (f Files) TryKey(ctx context.Context, path string) (public, why string) {
	public, words, err := f.ask(ctx, nil, "ssh-keygen", "-y", "-P", "", "-f", path)
	if err == nil {
		return public, ""
	}
	lines := strings.Split(words, "\n")
	return "", cmp.Or(strings.TrimSpace(lines[len(lines)-1]), fmt.Sprint(err))
}

// AgentKeys is how many keys the agent has that ssh would ask.
func (f Files) AgentKeys(ctx context.Context) int {
	var env []string
	if a := f.One("identityagent"); len(f.Config["identityagent"]) > 0 && a != "SSH_AUTH_SOCK" && !strings.HasPrefix(a, "$") {
		env = []string{"SSH_AUTH_SOCK=" + f.Name(a)} // empty: there is to be none
	}
	out, _, err := f.ask(ctx, env, "ssh-add", "-l")
	if err != nil {
		return 0
	}
	return strings.Count(out, "\n")
}

// Beside is another program of the same OpenSSH.
func (f Files) Beside(name string) string {
	path := filepath.Join(filepath.Dir(f.Program), name)
	if _, err := os.Stat(path); err == nil && f.Program != "" {
		return path
	}
	return name
}

func (f Files) ask(ctx context.Context, env []string, name string, args ...string) (out, words string, err error) {
	return Ask(ctx, append(Env(), env...), f.Beside(name), args...)
}

// ArgvOfTrial is the command line of a launch that tells of each step, also at a
// jump host, and writes nothing into known_hosts.
func (c *Client) ArgvOfTrial(f Files) []string {
	first := []string{"-v"}
	if c.Version.AtLeast(6, 8) {
		first = append(first, "-o", "UpdateHostKeys=no")
	}
	if f.AsksNobody() && f.KeepsHosts() {
		first = append(first, "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile="+strings.Join(f.KnownHosts(), " "))
	}
	return slices.Insert(c.Argv(), 1, first...)
}
