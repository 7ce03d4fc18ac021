package system

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// children are a process' children and their names, zombies too.
func children(pid int) (names map[int]string) {
	names = map[int]string{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		front, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			_, names[n], _ = strings.Cut(front, "(")
		}
	}
	return names
}

// TestProcess1ReapsWhatAProxyCommandLeaves, as in a container without an init.
func TestProcess1ReapsWhatAProxyCommandLeaves(t *testing.T) {
	t.Parallel()
	h := testbed.NewHost(t)
	mark := filepath.Join(testbed.PublicDir(t), "mark")
	testbed.Write(t, mark, "")
	testbed.GiveTo(t, mark, testbed.RunAs)
	h.Configure(t, fmt.Sprintf("ProxyCommand sh -c '(setsid sh -c \"echo here >>%s; exec sleep 1\" &); exec nc 127.0.0.1 %d'", mark, h.Port))
	m := h.Prepare(t, testbed.MailServer(t, nil))
	m.Cmd = exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child"}, m.Cmd.Args...)...)
	m.Start(t)
	var init int
	for pid := range children(m.Cmd.Process.Pid) {
		init = pid
	}
	m.Greets(t)
	testbed.Eventually(t, "something was left behind", func() bool { return testbed.Read(t, mark) != "" })
	m.Down(t)
	testbed.Eventually(t, "process 1 has minimail alone", func() bool {
		all := slices.Collect(maps.Values(children(init)))
		return len(all) == 1 && strings.HasPrefix(all[0], "minimail")
	})
	if err := exec.Command("kill", strconv.Itoa(init)).Run(); err != nil { // as docker stop does
		t.Fatal(err)
	}
	testbed.Eventually(t, "it ends", func() bool { return len(children(m.Cmd.Process.Pid)) == 0 })
}
