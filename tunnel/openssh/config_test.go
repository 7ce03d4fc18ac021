package openssh

import (
	"slices"
	"testing"
)

func TestWhatMinimailOverridesIsNamed(t *testing.T) {
	t.Parallel()
	quiet := "controlmaster false\ncontrolpersist no\ngatewayports no\npermitlocalcommand no\nrequesttty auto\nforkafterauthentication no\n"
	if o := ParseConfig(quiet).Overridden(); len(o) > 0 {
		t.Errorf("ssh's defaults: %q", o)
	}
	loud := "controlmaster auto\ncontrolpersist 600\ngatewayports yes\npermitlocalcommand yes\nrequesttty force\nforkafterauthentication yes\n"
	want := []string{"ControlMaster auto", "ControlPersist 600", "GatewayPorts yes", "ForkAfterAuthentication yes", "PermitLocalCommand yes", "RequestTTY force"}
	if o := ParseConfig(loud).Overridden(); !slices.Equal(o, want) {
		t.Errorf("got %q, want %q", o, want)
	}
}

func TestAnotherSSHIsTheWayIfThereIsAJumpHostOrTheProxyIsOne(t *testing.T) {
	for keyword, values := range map[string]map[string]bool{
		"proxyjump":    {"a": true, "none": false},
		"proxycommand": {"ssh -W %h:%p a": true, "exec /usr/bin/ssh a": true, "nc ssh 22": false, "sshd": false, "none": false},
	} {
		for value, want := range values {
			if got := (Config{keyword: {value}}).Jumps(); got != want {
				t.Errorf("%s %s: %t", keyword, value, got)
			}
		}
	}
}

func TestTheComplaintOfSSHsSettingsIsTheLineThatNamesTheMistake(t *testing.T) {
	for words, want := range map[string]string{
		"/c line 3: Bad port 'x'.\n/c: terminating, 1 bad configuration options": "/c line 3: Bad port 'x'.",
		"/c: terminating, 1 bad configuration options":                           "/c: terminating, 1 bad configuration options",
		"a warning\nBad owner or permissions on /c":                              "Bad owner or permissions on /c",
		"Bad owner or permissions on /c\r":                                       "Bad owner or permissions on /c",
		"":                                                                       "",
		"usage: ssh [-46]\n           destination [command [argument ...]]":     "it takes the host, or an option, for none, and prints its usage",
		"vdollar_percent_expand: unknown key %Z\npercent_dollar_expand: failed": "vdollar_percent_expand: unknown key %Z",
	} {
		if got := complaint(words); got != want {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}
