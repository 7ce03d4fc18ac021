package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// fakes are the programs of an OpenSSH in a directory: what ssh-keygen says of a
// key is what the file of that name has behind "is" or "no"; a host is known if its
// name is in the file. ssh answers -G with the file answer, after ssh.sh.
func fakes(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"ssh-keygen": `case $1 in
-y) read -r how what <"$5"; [ "$how" = is ] && echo "$what" && exit; echo "first: $what" >&2; echo "$what" >&2; exit 1 ;;
-F) grep -qsF "$2" "$4" && cat "$4" ;;
esac`,
		"ssh-add": `[ "$1" = -l ] && cat "${0%/*}/agent" 2>/dev/null`,
		"ssh": `[ "$1" != -V ] || exec cat "${0%/*}/version"
. "${0%/*}/ssh.sh"
exec cat "${0%/*}/answer"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testbed.Write(t, filepath.Join(dir, "ssh.sh"), "")
	testbed.Write(t, filepath.Join(dir, "version"), "OpenSSH_9.2p1 Debian-2, OpenSSL 3.0\n")
	return dir
}

// saysIn is says of what has a directory's name in it: DIR stands for that.
func saysIn(t *testing.T, out *strings.Builder, dir, what, want string) {
	t.Helper()
	short := strings.ReplaceAll(out.String(), dir, "DIR")
	out.Reset()
	out.WriteString(short)
	says(t, out, what, want)
}
