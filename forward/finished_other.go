//go:build unix && !linux

package forward

// finished: this system does not tell how a peer has ended.
func finished(stream, int64) bool { return true }
