package openssh

import (
	"reflect"
	"testing"
)

// TestTheHopThatFailsIsTheOneThatSpeaksLast: of the ssh of each jump host all comes
// by the same standard error.
func TestTheHopThatFailsIsTheOneThatSpeaksLast(t *testing.T) {
	const via = implicit + "ssh -v -W '[%h]:%p' "
	const to = "debug1: Connecting to a [192.0.2.1] port 22."
	const wayTimedOut = "Connection to UNKNOWN port 65535 timed out"
	const blocked = "channel 0: open failed: connect failed: Connection refused"
	a, b := Command{Program: "ssh", Host: "a"}, Command{Program: "ssh", Host: "b", Options: []string{"ProxyJump=a"}}
	one := own(via + "a")
	two := append(own(implicit+"ssh -J a -v -W '[%h]:%p' b"), rest(via+"a", to)...)
	ended := own(closedEarly, wayClosed)
	for name, test := range map[string]struct {
		lines [][]said
		means Meaning
		hop   Command
	}{
		"one, that refuses":                   {[][]said{one, rest(to, denied), ended}, KeyRefused, a},
		"one, that is not reached":            {[][]said{one, rest("ssh: connect to host a port 22: Connection refused"), ended}, Refused, a},
		"one, that has let in, and a refusal": {[][]said{one, rest(to, letIn, blocked), ended}, JumpBlocked, a},
		"one, that has let in, and an end":    {[][]said{one, rest(to, letIn), ended}, HungUp, Command{}},
		"two, the first refuses":              {[][]said{two, rest(denied), ended}, KeyRefused, a},
		"two, the second refuses":             {[][]said{two, rest(letIn, denied), ended}, KeyRefused, b},
		"two, the second is not reached":      {[][]said{two, rest(letIn, blocked), ended}, JumpBlocked, a},
		"two, the host is not reached":        {[][]said{two, rest(letIn, letIn, blocked), ended}, JumpBlocked, b},
		"two, the host ends it":               {[][]said{two, rest(letIn, letIn), ended}, HungUp, Command{}},
		"two, the second says nothing":        {[][]said{two, rest(letIn), ended}, WayEnded, b},
		"a banner that looks like a failure":  {[][]said{two, rest(denied, letIn), ended}, WayEnded, b},
		"a banner that wants more":            {[][]said{two, rest("Authenticated with partial success.", letIn, denied), ended}, KeyRefused, b},
		"a banner that names another":         {[][]said{two, rest(via+"evil", denied), ended}, KeyRefused, a},
		"a second one that does":              {[][]said{two, rest(letIn, via+"evil", denied), ended}, KeyRefused, b},
		"one, and a host that ends the login": {[][]said{one, rest(to, letIn), own(wayClosed)}, Closed, Command{}},
		"one, and a host that is silent":      {[][]said{one, rest(to, letIn), own("Connection timed out during banner exchange", wayTimedOut)}, Silent, Command{}},
		"one, and a host that falls silent":   {[][]said{one, rest(to, letIn), own(wayTimedOut)}, TimedOut, Command{}},
		"one, of which nothing is known":      {[][]said{one, own("Connection timed out during banner exchange", wayTimedOut)}, WaySilent, a},
		"two, the second hangs up":            {[][]said{two, rest(letIn, closedEarly, wayClosed), ended}, HungUp, b},
		"two, the way to the first ends":      {[][]said{two, rest(closedEarly, wayClosed), ended}, WayEnded, a},
		"two, the host refuses":               {[][]said{two, rest(letIn), own(denied)}, KeyRefused, Command{}},
		"a banner of a session":               {[][]said{two, rest(blocked), ended}, JumpBlocked, a},
		"more that let in than there are":     {[][]said{two, rest(letIn, letIn, letIn, letIn, blocked), ended}, JumpBlocked, b},
	} {
		_, v := readAll(false, test.lines...)
		if v.Means != test.means || v.OnTheWay != (test.hop.Host != "") || !reflect.DeepEqual(v.Hop, test.hop) {
			t.Errorf("%s: %+v, want %q at %+v", name, v, test.means, test.hop)
		}
	}
}
