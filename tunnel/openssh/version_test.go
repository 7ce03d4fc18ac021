package openssh

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSSHSaysItsVersionInManyWays(t *testing.T) {
	dir := t.TempDir()
	for line, want := range map[string]Version{
		"OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.13 30 Jan 2024":   {9, 2},
		"OpenSSH_8.9p1 Ubuntu-3ubuntu0.10, OpenSSL 3.0.2 15 Mar 2022":  {8, 9},
		"OpenSSH_10.0p2, OpenSSL 3.5.0":                                {10, 0},
		"OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2":                    {8, 1},
		"OpenSSH_7.4p1, OpenSSL 1.0.2k-fips  26 Jan 2017":              {7, 4},
		"warning: something else\nOpenSSH_9.6p1 Debian, OpenSSL 3.1.4": {9, 6},
		"Dropbear v2022.83": {},
		"":                  {},
	} {
		ssh := filepath.Join(dir, "ssh")
		script := "#!/bin/sh\n[ \"$*\" = -V ] || exit 1\ncat >&2 <<'E'\n" + line + "\nE\n"
		if err := os.WriteFile(ssh, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := AskVersion(t.Context(), nil, ssh)
		if err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", line, got, err, want)
		}
	}
}

func TestAnSSHThatCannotRunIsAnError(t *testing.T) {
	if _, err := AskVersion(t.Context(), nil, filepath.Join(t.TempDir(), "ssh")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is missing: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := AskVersion(t.Context(), nil, "ssh"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("one that is not in PATH: %v", err)
	}
}

func TestWhatHelpsAgainstAnSSHThatCannotRunDependsOnWhy(t *testing.T) {
	there := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(there, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, noInterpreter := AskVersion(t.Context(), nil, there)
	for err, want := range map[error]string{
		noInterpreter: "file -L /x/ssh #",
		&fs.PathError{Op: "fork/exec", Path: "/x/ssh", Err: syscall.ENOENT}:  "sudo apt install",
		&exec.Error{Name: "ssh", Err: exec.ErrNotFound}:                      "sudo apt install",
		&fs.PathError{Op: "open", Path: "/dev/null", Err: syscall.EMFILE}:    "ulimit -n",
		&fs.PathError{Op: "fork/exec", Path: "/x/ssh", Err: syscall.EAGAIN}:  "ulimit -u",
		&fs.PathError{Op: "fork/exec", Path: "/x/ssh", Err: syscall.EACCES}:  "ls -lL /x/ssh #",
		&exec.Error{Name: "/x/ssh", Err: syscall.EISDIR}:                     "ls -lL /x/ssh #",
		&fs.PathError{Op: "fork/exec", Path: "/x/ssh", Err: syscall.ENOEXEC}: "file -L /x/ssh #",
		errors.New("exit status 1"):                                          "/x/ssh -V #",
	} {
		if got := Cure("/x/ssh", err); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
