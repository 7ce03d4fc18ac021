package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
)

// Shared are warnings of near ends that others can get in the way of.
func Shared(s settings.Settings, uid int) []string {
	var all []string
	for _, f := range s.Forwards {
		if f.Network() != "unix" {
			continue
		}
		if why, _ := IsShared(f.Near, uid); why != "" {
			all = append(all, fmt.Sprintf("%s: they can keep mail from leaving, though not read it, by a socket of their own in place of %s", why, f.Near))
		}
	}
	return all
}

// IsShared says why others than uid can put something in place of a socket, and
// what keeps them from it; empty: they cannot. A directory like /tmp, good enough
// for a file that is there, lets them be the first.
func IsShared(socket string, uid int) (why, mend string) {
	dir := filepath.Dir(socket)
	_, err := Find(socket, uid)
	if e := (exposed{}); errors.As(err, &e) {
		return e.why, e.mend
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o002 != 0 {
		return "others can write into " + dir, fail.Quote("sudo", "install", "-d", "-m", "700", "-o", privdrop.Name(uid), filepath.Join(dir, "minimail")) + " # and let TUNNEL be in there"
	}
	return "", ""
}

// warnOfShared tells the person who starts it; in the foreground the log does.
func warnOfShared(s settings.Settings) {
	who, err := ToBecome(s)
	uid, uidErr := uidOf(who)
	if s.Foreground || err != nil || uidErr != nil {
		return
	}
	for _, w := range Shared(s, uid) {
		fmt.Fprintln(os.Stderr, "minimail: warning:", fail.Printable(w))
	}
}
