//go:build !linux

package daemon

func hasACL(string) bool { return false }
