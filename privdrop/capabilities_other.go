//go:build unix && !linux

package privdrop

// Capabilities has nothing to give up on this system.
func Capabilities() error { return nil }
