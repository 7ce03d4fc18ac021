package serve

import (
	"fmt"
	"os"
	"strings"
	"time"

	"minimail/internal/daemon"
	"minimail/tunnel"
)

// sentence is a tunnel's status in a line for `systemctl status`.
func sentence(now tunnel.Status) string {
	switch {
	case now.State == tunnel.BackingOff:
		return fmt.Sprintf("tunnel down; the next try is in %s: %v", time.Until(now.Until).Round(time.Second), now.Why)
	case now.State == tunnel.Up && now.Clients == 0:
		return fmt.Sprintf("tunnel up; closes in %s if nobody comes", time.Until(now.Until).Round(time.Second))
	case now.Clients > 0:
		return fmt.Sprintf("tunnel %s; clients: %d", now.State, now.Clients)
	}
	return fmt.Sprintf("tunnel %s", now.State)
}

// running is the sentence of those who start us. Not to speak SMTP is worth a
// word: clients that cannot be served get no 421.
func (l *life) running() string {
	var at []string
	for _, d := range l.doors {
		all := strings.Join(addresses([]door{d}), " and ")
		if !d.SMTP {
			all += " (tcp)"
		}
		at = append(at, all)
	}
	said := fmt.Sprintf("minimail runs: pid %d, listening on %s, as user %s", os.Getpid(), strings.Join(at, " and "), daemon.UserName())
	if l.before != nil {
		said += fmt.Sprintf(", in the place of pid %d", l.before.PID)
	}
	return said
}
