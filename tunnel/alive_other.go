//go:build unix && !linux

package tunnel

// signs are not known here.
func (*wire) signs() (signs, bool) { return signs{}, false }
