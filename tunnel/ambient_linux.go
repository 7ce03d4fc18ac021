package tunnel

import "golang.org/x/sys/unix"

// dropAmbient takes from this thread, and so from the ssh that it will start,
// what a service manager may have given us to bind a port below 1024
// (capabilities(7), ambient set). A kernel without ambient capabilities has
// nothing to take away.
func dropAmbient() {
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}
