//go:build unix && !linux

package tunnel

func dropAmbient() {}
