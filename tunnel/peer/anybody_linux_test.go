package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestInAUserNamespaceNobodyIsTakenForOurselves: everybody that it has no place
// for has the same uid there, be he who he will.
func TestInAUserNamespaceNobodyIsTakenForOurselves(t *testing.T) {
	other := play(t, as(t, intruder, fake("server", "tcp", "127.0.0.1:0")))
	for _, uid := range []int{overflow(t), uidOf(t, intruder) + 1} {
		t.Run(strconv.Itoa(uid), func(t *testing.T) {
			cmd := fake("namesake", other.at)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
				Credential:  &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true},
			}
			p := play(t, cmd)
			who := fmt.Sprintf("%s is held by another user, not by our ssh", other.at)
			if want := fmt.Sprintf("uid %d, ours %v: %s; %s", uid, uid != overflow(t), who, who); p.at != want {
				t.Errorf("%s\nwant\n%s", p.at, want)
			}
		})
	}
}

func init() {
	roles["namesake"] = func(args []string) int {
		fmt.Printf("uid %d, ours %v: ", os.Getuid(), isOurs(os.Getuid()))
		l := this()
		first := l.listens("tcp", args[0])
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer c.Close()
		fmt.Printf("%v; %v\n", first, l.leads(context.Background(), c, args[0]))
		return 0
	}
}

func overflow(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

func TestAUserIsCalledByHisNameOrByHisNumber(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]string{
		os.Getuid(): fmt.Sprintf("uid %s (%s)", me.Uid, me.Username),
		2147483640:  "uid 2147483640",
		Unknown:     "somebody of whom the kernel does not tell",
	} {
		if got := called(uid); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
