package privdrop

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// directory is a change for becoming: the child lives where the name service
// knows ldapuser and some groups from other files than those of /etc (Debian's
// libnss-extrausers), and it is static, as our packages are.
func directory(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	dir := openDir(t)
	static := filepath.Join(dir, "static")
	build := exec.Command("go", "test", "-c", "-o", static, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"nsswitch.conf": "passwd: files extrausers\ngroup: files extrausers\n",
		"passwd":        "ldapuser:x:65533:65532:A User:/home/ldap:/bin/ldapsh\n",
		"group":         "ldapgroup:x:65532:\nmailers:x:65531:nobody,ldapuser\nothers:x:65530:root\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *exec.Cmd) {
		unshare, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		c.Path = unshare
		c.Args = []string{"unshare", "--mount", "sh", "-c", `
			mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && mount --bind "$1" /var/lib/extrausers &&
				getent passwd ldapuser >/dev/null || { echo "is libnss-extrausers installed?" >&2; exit 1; }
			exec "$1/static"`, "sh", dir}
	}
}

func TestAUserOfADirectoryServiceHasItsGroups(t *testing.T) {
	asRoot(t)
	d := becoming(t, "ldapuser", directory(t))
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	d.are(t, 65533, 65532, []int{65531, 65532})
	if got := strings.Join([]string{d.Env["HOME"], d.Env["USER"], d.Env["SHELL"]}, " "); got != "/home/ldap ldapuser /bin/ldapsh" {
		t.Errorf("the environment is %s", got)
	}
}

func TestAUserOfThisMachineHasItsGroupsOfADirectoryServiceAsWell(t *testing.T) {
	asRoot(t)
	d := becoming(t, "nobody", directory(t))
	if d.Err != "" {
		t.Fatal(d.Err)
	}
	u := users(t)
	nobody := u[slices.IndexFunc(u, func(u []string) bool { return u[0] == "nobody" })]
	want := append(groupsOf(t, "nobody", nobody[3]), 65531)
	slices.Sort(want)
	d.are(t, numbers(nobody[2:3])[0], numbers(nobody[3:4])[0], want)
}

func TestAUserThatTheDirectoryServiceDoesNotKnowIsRefused(t *testing.T) {
	asRoot(t)
	d := becoming(t, "ldapuser2", directory(t))
	if want := `there is no user "ldapuser2" on this machine`; d.Err != want {
		t.Errorf("error %q, not %q", d.Err, want)
	}
}
