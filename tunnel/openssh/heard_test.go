package openssh

import "testing"

// TestWhatOddLinesInOddOrderMean: each row is one that a small fault would change.
func TestWhatOddLinesInOddOrderMean(t *testing.T) {
	const gone, load = "Connection to far closed by remote host.", `Load key "/k": error in libcrypto`
	const jumpDenied = "me@jump: Permission denied (publickey)."
	for name, test := range map[string]struct {
		jumps bool
		lines [][]said
		why   string
		fail  string
		means Meaning
		onWay bool
	}{
		"an end of what has not worked":               {lines: [][]said{own("moon"), rest(gone)}, why: "moon"},
		"an end after a reason":                       {lines: [][]said{own(letIn, "channel 2: open failed: no"), rest(gone)}, why: "channel 2: open failed: no", fail: Unseen, means: FarRefused},
		"a way that ends when the host has spoken":    {jumps: true, lines: [][]said{rest(jumpDenied), own(wayClosed)}, why: "the way to the host has ended: me@jump: Permission denied (publickey)", fail: Hidden, means: WayEnded},
		"a way that is silent after a word":           {jumps: true, lines: [][]said{rest(jumpDenied), own("Connection timed out during banner exchange", "Connection to UNKNOWN port 65535 timed out")}, why: "Connection timed out during banner exchange", fail: Hidden, means: WaySilent},
		"a ProxyCommand's ssh that is verbose":        {jumps: true, lines: [][]said{rest(letIn, closedEarly, wayClosed), own(closedEarly, wayClosed)}, why: "the way to the host has ended: Connection closed by UNKNOWN port 65535", fail: Hidden, means: WayEnded, onWay: true},
		"only a detail":                               {lines: [][]said{own(load)}, why: load},
		"a detail, and a line that nobody knows":      {lines: [][]said{own(load, "moon")}, why: "moon"},
		"a program without a log, and its details":    {lines: [][]said{rest("/c line 3: Bad port 'x'.", "/c: terminating, 1 bad configuration options")}, why: "/c: terminating, 1 bad configuration options (/c line 3: Bad port 'x')", fail: Definite, means: BadSettings},
		"many details":                                {lines: [][]said{own("socket: 1", "socket: 2", "socket: 3", "socket: 4", denied)}, why: "me@far: Permission denied (publickey) (socket: 2; socket: 3; socket: 4)", fail: Definite, means: KeyRefused},
		"one of a group of reasons, and another":      {lines: [][]said{own(denied, closedEarly, "ssh: connect to host far port 22: No route to host")}, why: "ssh: connect to host far port 22: No route to host", fail: Unseen, means: NoAnswer},
		"a leave without a reason":                    {lines: [][]said{own("Disconnected from 192.0.2.1 port 22")}, why: "Disconnected from 192.0.2.1 port 22", fail: Unclear, means: Closed},
		"no sshd, and a leave":                        {lines: [][]said{own("kex_exchange_identification: banner line too long", "Disconnected from 192.0.2.1 port 22")}, why: "kex_exchange_identification: banner line too long", fail: Early, means: NotSSH},
		"no sshd, and a line that nobody knows":       {lines: [][]said{own("kex_exchange_identification: banner line too long", "moon")}, why: "moon"},
		"sent away, and a leave":                      {lines: [][]said{own("Received disconnect from 192.0.2.1 port 22:11: go", "Disconnected from 192.0.2.1 port 22")}, why: "Received disconnect from 192.0.2.1 port 22:11: go", means: SentAway},
		"a silent host that then hangs up":            {lines: [][]said{own("Connection timed out during banner exchange", "Connection closed by 192.0.2.1 port 22")}, why: "Connection closed by 192.0.2.1 port 22", means: Closed},
		"a host that hangs up, and then is not heard": {lines: [][]said{own(closedEarly, "Connection to 192.0.2.1 port 22 timed out")}, why: "Connection to 192.0.2.1 port 22 timed out", means: TimedOut},
		"hostbased wanted":                            {lines: [][]said{own("me@far: Permission denied (hostbased).")}, why: "me@far: Permission denied (hostbased)", fail: Definite, means: KeyRefused},
		"gssapi wanted":                               {lines: [][]said{own("me@far: Permission denied (password,gssapi-with-mic).")}, why: "me@far: Permission denied (password,gssapi-with-mic)", fail: Definite, means: KeyRefused},
		"a partial success, and an end":               {lines: [][]said{own("Authenticated with partial success.", "Connection closed by 192.0.2.1 port 22")}, why: "Connection closed by 192.0.2.1 port 22 (Authenticated with partial success)", means: Closed},
	} {
		h, v := readAll(test.jumps, test.lines...)
		if h.Why != test.why || h.Failure != test.fail || v.Means != test.means || v.OnTheWay != test.onWay {
			t.Errorf("%s: %q (%s), %+v\nwant %q (%s), %q, on the way %t", name, h.Why, h.Failure, v, test.why, test.fail, test.means, test.onWay)
		}
	}
}
