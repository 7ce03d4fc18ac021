package forward

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestAClientThatHasResetIsWhatEndedItsVisit(t *testing.T) {
	client, ours := connected(t)
	theirs, _ := connected(t)
	v := newVisit(t.Context(), patient(), ours, theirs, false)
	_ = client.SetLinger(0)
	client.Close()
	until(t, "the reset is seen", func() bool { return dead(ours) })
	if err := v.whyEnded(syscall.EPIPE); err != errLost || v.outcome != "client reset" {
		t.Errorf("%v, %q", err, v.outcome)
	}
}

func TestWhatCannotBeReadIsAnErrorWithoutARawConnectionToo(t *testing.T) {
	from, to := connected(t)
	from.Close()
	if err := (&direction{from: from, to: to}).copy(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
