package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"minimail/internal/settings"
	"minimail/internal/testbed"
)

// TestRootTakesNoOptionsFromWhereAUserCanAnswer: of one whose pid file is in a
// place of a user's nobody but that user says what it was told.
func TestRootTakesNoOptionsFromWhereAUserCanAnswer(t *testing.T) {
	testbed.NeedRoot(t)
	uid := testbed.UidOf(t, testbed.RunAs)
	roots, users := testbed.PublicDir(t), testbed.PublicDir(t)
	testbed.GiveTo(t, users, testbed.RunAs)
	evil := "--log-file=" + filepath.Join(roots, "evil")
	for dir, want := range map[string]bool{roots: true, users: false} {
		s, err := settings.Parse([]string{"restart", "--settings", os.DevNull}, []settings.Word{{Name: "restart"}})
		if err != nil {
			t.Fatal(err)
		}
		r := Report{PID: 1, User: testbed.RunAs, Log: filepath.Join(roots, "evil"), uid: uid,
			Given: settings.Given{Options: []string{"--host=far", "--user=" + testbed.RunAs, evil}}}
		s, err = inherit(s, r, filepath.Join(dir, "m.pid"))
		if got := slices.Contains(s.Args(), evil) || s.LogFile == r.Log; got != want {
			t.Errorf("%s: %v (%v), want %v: %q", dir, got, err, want, s.Args())
		}
	}
}
