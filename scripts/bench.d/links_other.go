//go:build unix && !linux

package main

// links need network namespaces.
func (b *bench) links() error {
	b.tell("skipped: the rows over links, which need Linux")
	return nil
}

func (b *bench) packets() error { return b.links() }
