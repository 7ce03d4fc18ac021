package testbed

import (
	"fmt"
	"testing"

	"minimail/internal/testbed/link"
)

// NewLongHost is a host, and a mail server on it, at the far side of a link of
// the test's own. What ssh_config has to say of it in the first place is lines.
// What is to use the host has to be started on the near side: l.Near.Do.
func NewLongHost(t testing.TB, c link.Conditions, lines ...string) (l *link.Link, h *Host, mailServer string) {
	t.Helper()
	NeedRoot(t)
	l, err := link.New(1, c)
	if err != nil {
		t.Skip("needs a link of its own: ", err)
	}
	t.Cleanup(l.Close)
	_ = l.Far.Do(func() error {
		address := l.Far.Address.String()
		h = NewHost(t, "ListenAddress "+address)
		h.Configure(t, append(lines, "HostName "+address, fmt.Sprintf("HostKeyAlias [127.0.0.1]:%d", h.Port))...)
		mailServer = MailServer(t, nil)
		return nil
	})
	return l, h, mailServer
}
