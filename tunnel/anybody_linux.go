package tunnel

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// IsAnybody reports whether a uid stands for all users that our user namespace
// has no place for (user_namespaces(7)), so that nobody can be told by it.
func IsAnybody(uid int) bool { return uid == anybody() }

// anybody is that uid, or -1 if everybody has one of his own.
var anybody = sync.OnceValue(func() int {
	table, err := os.ReadFile("/proc/self/uid_map")
	if err == nil && hasPlaceForAll(string(table)) {
		return -1
	}
	if _, noProc := os.Stat("/proc/self"); os.IsNotExist(err) && noProc == nil {
		return -1 // a kernel without user namespaces
	}
	const usual = 65534
	b, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	uid, notANumber := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || notANumber != nil {
		return usual
	}
	return uid
})

// hasPlaceForAll reads a uid_map: lines of INSIDE OUTSIDE LENGTH.
func hasPlaceForAll(table string) bool {
	places := uint64(0)
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) == 3 {
			n, _ := strconv.ParseUint(f[2], 10, 32)
			places += n
		}
	}
	return places >= 1<<32-1
}
