package privdrop

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestEveryThreadBecomesTheUserWithItsGroupsAndNoOthers(t *testing.T) {
	asRoot(t)
	for _, u := range users(t) {
		t.Run(u[0], func(t *testing.T) {
			d := becoming(t, u[0])
			if d.Err != "" {
				t.Fatal(d.Err)
			}
			ids := numbers([]string{u[2]})
			d.are(t, ids[0], numbers([]string{u[3]})[0], groupsOf(t, u[0], u[3]))
		})
	}
}

func TestNoCapabilityIsLeft(t *testing.T) {
	d := becoming(t, "nobody")
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	for _, th := range d.tasks(t) {
		for _, k := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if strings.Trim(strings.Join(th[k], ""), "0") != "" {
				t.Errorf("thread %s has %s %s", th["Pid"], k, th[k])
			}
		}
	}
}

func TestThereIsNoWayBack(t *testing.T) {
	d := becoming(t, "nobody")
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	if len(d.WaysBack) < 9 {
		t.Errorf("only %d ways back were tried", len(d.WaysBack))
	}
	for way, failure := range d.WaysBack {
		if !strings.Contains(failure, "not permitted") && !strings.Contains(failure, "permission denied") {
			t.Errorf("%s: %q", way, failure)
		}
	}
	u := users(t)
	nobody := u[slices.IndexFunc(u, func(u []string) bool { return u[0] == "nobody" })]
	d.are(t, numbers(nobody[2:3])[0], numbers(nobody[3:4])[0], groupsOf(t, "nobody", nobody[3]))
}

func TestTheEnvironmentIsTheUsers(t *testing.T) {
	asRoot(t)
	for _, u := range users(t) {
		t.Run(u[0], func(t *testing.T) {
			d := becoming(t, u[0])
			for k, want := range map[string]string{"HOME": u[5], "USER": u[0], "LOGNAME": u[0], "SHELL": u[6]} {
				if d.Env[k] != want {
					t.Errorf("%s is %q, not %q", k, d.Env[k], want)
				}
			}
		})
	}
}

func TestARefusalChangesNothing(t *testing.T) {
	for name, want := range map[string]string{
		"root":         `user "root" is root: nothing would be given up`,
		"no-such-user": `there is no user "no-such-user" on this machine`,
		"":             `there is no user "" on this machine`,
	} {
		t.Run(name, func(t *testing.T) {
			d := becoming(t, name)
			if d.Err != want {
				t.Errorf("error %q, not %q", d.Err, want)
			}
			d.are(t, 0, 0, []int{0, 4, 6})
			if d.Env["USER"] != "root" {
				t.Errorf("USER is %q", d.Env["USER"])
			}
		})
	}
}

func TestWhoIsNotRootCannotBecomeAnybody(t *testing.T) {
	d := becoming(t, "nobody", func(c *exec.Cmd) { c.Env = append(c.Env, twiceVar+"=yes") })
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	if !strings.Contains(d.Again, `cannot set the groups of "nobody"`) || !strings.Contains(d.Again, "not permitted") {
		t.Errorf("the second time: %q", d.Again)
	}
}

// In a user namespace that has only some of the ids, root cannot become
// everybody: a way to see To fail in the middle.
func TestIfTheKernelRefusesAnIdToSaysWhich(t *testing.T) {
	asRoot(t)
	only := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
	for want, maps := range map[string][2][]syscall.SysProcIDMap{
		`cannot set the groups of "nobody": `: {all, only},
		`cannot become user "nobody": `:       {only, all},
		`cannot become group `:                {all, only},
	} {
		t.Run(want, func(t *testing.T) {
			if want == `cannot become group ` {
				fake(t, "id", "echo 0") // which there is
			}
			namespaced := func(c *exec.Cmd) {
				c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
					UidMappings: maps[0], GidMappings: maps[1], GidMappingsEnableSetgroups: true}
			}
			probe := exec.Command("true")
			namespaced(probe)
			if err := probe.Run(); err != nil {
				t.Skip("no user namespaces here:", err)
			}
			if d := becoming(t, "nobody", namespaced); !strings.HasPrefix(d.Err, want) {
				t.Errorf("error %q", d.Err)
			}
		})
	}
}

// TestGroupsMayComeInAnyOrderAndTwice, as a directory service has them.
func TestGroupsMayComeInAnyOrderAndTwice(t *testing.T) {
	asRoot(t)
	fake(t, "id", "echo 65531 65530 65531")
	d := becoming(t, "nobody")
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	nobody := users(t)[slices.IndexFunc(users(t), func(u []string) bool { return u[0] == "nobody" })]
	d.are(t, numbers(nobody[2:3])[0], numbers(nobody[3:4])[0], []int{65530, 65531})
}

func TestAUserOfADirectoryServiceCanBeBecome(t *testing.T) {
	asRoot(t)
	for given, shell := range map[string]string{"/bin/ldapsh": "/bin/ldapsh", "": "/bin/sh"} {
		t.Run("with the shell "+strconv.Quote(given), func(t *testing.T) {
			fakeGetent(t, "ldapuser", "ldapuser:x:65533:65532:A User:/home/ldap:"+given)
			d := becoming(t, "ldapuser")
			if d.Err != "" {
				t.Fatal(d.Err)
			}
			d.are(t, 65533, 65532, []int{65532})
			for k, want := range map[string]string{"HOME": "/home/ldap", "USER": "ldapuser", "LOGNAME": "ldapuser", "SHELL": shell} {
				if d.Env[k] != want {
					t.Errorf("%s is %q, not %q", k, d.Env[k], want)
				}
			}
		})
	}
}

func TestAUserWhoseIdsAreNoNumbersIsRefused(t *testing.T) {
	asRoot(t)
	for _, line := range []string{"ldapuser:x:many:65532::/:/bin/sh", "ldapuser:x:65533:many::/:/bin/sh"} {
		t.Run(line, func(t *testing.T) {
			fakeGetent(t, "ldapuser", line)
			d := becoming(t, "ldapuser")
			if !strings.HasPrefix(d.Err, `user "ldapuser": `) || !strings.Contains(d.Err, "many") {
				t.Errorf("error %q", d.Err)
			}
			d.are(t, 0, 0, []int{0, 4, 6})
		})
	}
}

// TestTheUserGetsNoneOfRootsEnvironment: there may be secrets in it, and whatever
// the user's ssh_config runs can read it.
func TestTheUserGetsNoneOfRootsEnvironment(t *testing.T) {
	asRoot(t)
	socket := filepath.Join(openDir(t), "agent")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []int{0, numbers(users(t)[0][2:3])[0], -1} {
		err := os.Chown(socket, owner, -1)
		if owner == -1 { // there is none
			err = os.Remove(socket)
		}
		if err != nil {
			t.Fatal(err)
		}
		d := becoming(t, users(t)[0][0], func(c *exec.Cmd) {
			c.Env = append(c.Env, "SECRET=x", "LC_ALL=C", "TZ=UTC", "LANG=C", "TERM=vt100", "LD_LIBRARY_PATH=/x", "SUDO_USER=root",
				"MINIMAIL_HOST=far", "NO_COLOR=1", "JOURNAL_STREAM=1:2", "XDG_RUNTIME_DIR=/run/user/0", "TMPDIR=/root", "SSH_AUTH_SOCK="+socket)
		})
		if d.Err != "" {
			t.Fatal(d.Err)
		}
		want := []string{"HOME", "JOURNAL_STREAM", "LANG", "LC_ALL", "LOGNAME", "NO_COLOR", "PATH", "SHELL", "TERM", "TZ", "USER"}
		if owner > 0 {
			want = append(want, "SSH_AUTH_SOCK")
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(d.Env)); !slices.Equal(got, want) {
			t.Errorf("an agent's socket of %d: %q, want %q", owner, got, want)
		}
	}
}
