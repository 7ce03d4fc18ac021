//go:build unix && !linux

package tunnel

// IsAnybody: here each user has a uid of his own.
func IsAnybody(int) bool { return false }
