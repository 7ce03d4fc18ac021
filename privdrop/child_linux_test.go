package privdrop

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A process can give up root only once, so this is done by a child: this very
// program, with the variable set to the user to become.
const (
	childVar = "PRIVDROP_TEST_BECOME"
	twiceVar = "PRIVDROP_TEST_TWICE"
	fileVar  = "PRIVDROP_TEST_FILE"
)

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(childVar); ok {
		if path := os.Getenv(pathVar); path != "" {
			systemPath = strings.Split(path, ":")
		}
		if which := os.Getenv(refuseVar); which != "" {
			panic(refused(which))
		}
		child(name)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A report is what a child says of itself.
type report struct {
	Err      string // To's
	Again    string // To's, the second time
	Env      map[string]string
	WaysBack map[string]string // what was tried to become root, and how it failed; "" is a success
}

// threads is how many the child has at least when it gives up root.
const threads = 8

func child(name string) {
	locked := make(chan struct{})
	for range threads {
		go func() { // ends with the process
			runtime.LockOSThread()
			locked <- struct{}{}
			select {}
		}()
	}
	for range threads {
		<-locked
	}
	if os.Getenv(aloneVar) != "" {
		sayAlone()
		return
	}
	twice, file := os.Getenv(twiceVar), os.Getenv(fileVar) // To forgets them
	r := report{Env: map[string]string{}, WaysBack: map[string]string{}}
	r.Err = text(To(name))
	if twice != "" {
		r.Again = text(To(name))
	}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		r.Env[k] = v
	}
	if r.Err == "" {
		r.tryBack(file)
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has looked at us
}

func (r *report) tryBack(file string) {
	r.WaysBack["setuid"] = text(syscall.Setuid(0))
	r.WaysBack["setreuid"] = text(syscall.Setreuid(0, 0))
	r.WaysBack["setresuid of the effective id"] = text(syscall.Setresuid(-1, 0, -1))
	r.WaysBack["setresuid of the saved id"] = text(syscall.Setresuid(-1, -1, 0))
	r.WaysBack["setgid"] = text(syscall.Setgid(0))
	r.WaysBack["setresgid of the effective id"] = text(syscall.Setresgid(-1, 0, -1))
	r.WaysBack["setgroups"] = text(syscall.Setgroups([]int{0}))
	r.WaysBack["chroot"] = text(unix.Chroot("/"))
	_, err := os.ReadFile(file)
	r.WaysBack["reading a file of root's"] = text(err)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A dropped is a child that has called To and waits to be looked at.
type dropped struct {
	report
	alone
	pid int
}

// becoming starts a child that calls To(name), with supplementary groups that
// it has to lose, and ends it with the test.
func becoming(t *testing.T, name string, change ...func(*exec.Cmd)) dropped {
	t.Helper()
	asRoot(t)
	dir := openDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVar+"="+name, fileVar+"="+secret, "GOCOVERDIR="+dir, "GORACE=atexit_sleep_ms=0",
		"HOME=/nowhere", "USER=root", "LOGNAME=root", "SHELL=/nowhere/sh")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 0, Gid: 0, Groups: []uint32{0, 4, 6}}}
	for _, c := range change {
		c(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		keepCoverage(t, dir)
	})
	d := dropped{pid: cmd.Process.Pid}
	var to any = &d.report
	if slices.Contains(cmd.Env, aloneVar+"=yes") {
		to = &d.alone
	}
	if err := json.NewDecoder(out).Decode(to); err != nil {
		t.Fatalf("the child says nothing: %v", err)
	}
	return d
}

// keepCoverage moves a child's counters, which it can only write where
// everybody can, to where `go test -cover` looks for them.
func keepCoverage(t *testing.T, dir string) {
	to := flag.Lookup("test.gocoverdir")
	if to == nil || to.Value.String() == "" {
		return
	}
	files, _ := filepath.Glob(filepath.Join(dir, "covcounters.*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(to.Value.String(), filepath.Base(f)), b, 0o600)
		}
		if err != nil {
			t.Log("no coverage of the child:", err)
		}
	}
}

// A thread is what the kernel says of one.
type thread map[string][]string

// tasks reads /proc/PID/task: the child cannot, for its own files there are
// root's since it has given up root.
func (d dropped) tasks(t *testing.T) (all []thread) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		th := thread{}
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok {
				th[k] = strings.Fields(v)
			}
		}
		all = append(all, th)
	}
	if len(all) < threads {
		t.Fatalf("%d threads, not at least %d", len(all), threads)
	}
	return all
}

// are checks the ids of all threads.
func (d dropped) are(t *testing.T, uid, gid int, groups []int) {
	t.Helper()
	for _, th := range d.tasks(t) {
		for k, id := range map[string]int{"Uid": uid, "Gid": gid} {
			s := strconv.Itoa(id)
			// real, effective, saved and of the file system
			if !slices.Equal(th[k], []string{s, s, s, s}) {
				t.Errorf("thread %s: %s is %v, not %d", th["Pid"], k, th[k], id)
			}
		}
		if got := numbers(th["Groups"]); !slices.Equal(got, groups) {
			t.Errorf("thread %s: the groups are %v, not %v", th["Pid"], got, groups)
		}
	}
}
