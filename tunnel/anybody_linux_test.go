package tunnel

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestAUserNamespaceHasAPlaceForAllOrNot(t *testing.T) {
	for table, want := range map[string]bool{
		"         0          0 4294967295\n":            true,
		"0 0 1000\n1000 5000 1\n1001 1001 4294966294\n": true,
		"0 100000 65536\n":                              false,
		"0 0 4294967294\n":                              false,
		"1000 1000 1\n":                                 false,
		"":                                              false,
		"a b c\n0 0\n":                                  false,
	} {
		if got := hasPlaceForAll(table); got != want {
			t.Errorf("%q: %v", table, got)
		}
	}
}

func TestWhoStandsForAllThatHaveNoPlaceIsWhomTheKernelNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot(2) needs root")
	}
	const uidMap, overflow = "proc/self/uid_map", "proc/sys/kernel/overflowuid"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"all have a place":                  {map[string]string{uidMap: "0 0 4294967295\n", overflow: "99\n"}, "[]"},
		"some have":                         {map[string]string{uidMap: "0 100000 65536\n", overflow: "99\n"}, "[99]"},
		"a kernel without user namespaces":  {map[string]string{"proc/self/stat": "", overflow: "99\n"}, "[]"},
		"a /proc that is not there":         {nil, "[65534]"},
		"a /proc without /proc/self":        {map[string]string{overflow: "99\n"}, "[99]"},
		"a kernel that does not name him":   {map[string]string{uidMap: "0 0 1\n"}, "[65534]"},
		"a kernel that says what is no uid": {map[string]string{uidMap: "0 0 1\n", overflow: "nobody\n"}, "[65534]"},
	} {
		dir := t.TempDir()
		for file, text := range test.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		argv := fake("settler", dir)
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil || string(out) != test.want {
			t.Errorf("%s: %v, %s; want %s", name, err, out, test.want)
		}
	}
}
