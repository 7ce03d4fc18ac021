package privdrop

import (
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"
)

// TestOneWrongIDIsEnoughToFail: each of them counts.
func TestOneWrongIDIsEnoughToFail(t *testing.T) {
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for name, ids := range map[string][2]int{"uid": {os.Getuid() + 1, os.Getgid()}, "gid": {os.Getuid(), os.Getgid() + 1}} {
		if err := verify(ids[0], ids[1], groups); err == nil || !strings.Contains(err.Error(), "the ids are not") {
			t.Errorf("a wrong %s: %v", name, err)
		}
	}
	if err := verify(os.Getuid(), os.Getgid(), append(slices.Clone(groups), 424242)); err == nil || !strings.Contains(err.Error(), "the groups are") {
		t.Errorf("a wrong group: %v", err)
	}
}

func TestAUserOfWhomNothingIsKnownHasAShellAndAGroup(t *testing.T) {
	const nobodys = "nobody-has-this-name"
	if got := shell(nobodys); got != "/bin/sh" {
		t.Errorf("the shell is %q", got)
	}
	if got := groupIDs(&user.User{Username: nobodys, Uid: "4242", Gid: "4242"}); !slices.Equal(got, []string{"4242"}) {
		t.Errorf("the groups are %q", got)
	}
	if got := groupIDs(&user.User{Username: nobodys, Gid: "many"}); !slices.Equal(got, []string{"many"}) {
		t.Errorf("the groups are %q", got)
	}
}
