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
