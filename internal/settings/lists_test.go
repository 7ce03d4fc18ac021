package settings

import (
	"os"
	"reflect"
	"testing"
	"time"
)

func TestACommaIsPartOfAValue(t *testing.T) {
	unset(t)
	t.Setenv("MINIMAIL_SSH_OPTION", "Ciphers=a,b\nMACs=c,d")
	s := settingsOf(t, "--settings", os.DevNull, "--host", "far")
	if want := []string{"Ciphers=a,b", "MACs=c,d"}; !reflect.DeepEqual(s.SSHOptions, want) {
		t.Errorf("got %q, want %q", s.SSHOptions, want)
	}
	s = settingsOf(t, "--settings", os.DevNull, "--host", "far", "--ssh-option", " Ciphers=a, b ", "--ssh", "/s", "--ssh-config", "/c", "--forward", "2525:1025:a:25 2526:/s:b:25",
		"--jitter", "0", "--drain", "0", "--idle", "0", "--wait", "1ms", "--max-clients", "1")
	if want := (Command{"/s", "/c", []string{"Ciphers=a, b"}, "far", []string{"1025:a:25", "/s:b:25"}}); !reflect.DeepEqual(s.Command(), want) {
		t.Errorf("got %q, want %q", s.Command(), want)
	}
	if s.Jitter != 0 || s.Drain != 0 || s.Idle != 0 || s.Wait != time.Millisecond || s.MaxClients != 1 || s.Forwards[1].Network() != "unix" || !s.Forwards[0].SMTP {
		t.Errorf("%+v", s)
	}
}
