package openssh

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minimail/internal/testbed"
)

// sayingEverything is a program that says every line of the table, and then does as
// it should.
func sayingEverything(t *testing.T, then string) string {
	t.Helper()
	file := filepath.Join(testbed.PublicDir(t), "helper")
	text := "#!/bin/sh\ncat " + everything(t) + " >&2\n" + then + "\n"
	syscall.ForkLock.RLock() // a child of another test must not have it open for writing (execve(2), ETXTBSY)
	testbed.Write(t, file, text)
	syscall.ForkLock.RUnlock()
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// Helpers of ssh's speak to its standard error. %HELPER% is one that says every
// form of the table, as ssh ends its lines, and goes on.
func TestAHelpersWordsDecideNothing(t *testing.T) {
	const connects = `exec nc 127.0.0.1 "$1"`
	for name, test := range map[string]struct {
		config, then string
		spoil        func(t *testing.T, h *testbed.Host)
		means        Meaning
	}{
		"a ProxyCommand":                             {"ProxyCommand %HELPER% %PORT%", connects, nil, ""},
		"a ProxyCommand, and a refusal":              {"ProxyCommand %HELPER% %PORT%", connects, refusing, KeyRefused},
		"a ProxyCommand that fails":                  {"ProxyCommand %HELPER%", "exit 1", nil, WayEnded},
		"a ProxyCommand, and a host that hangs up":   {"ProxyCommand %HELPER% %PORT%", connects, func(t *testing.T, h *testbed.Host) { listening(t, h, hangsUp) }, WayEnded},
		"a Match exec":                               {"Match exec %HELPER%\nCompression no\nHost far", "exit 0", nil, ""},
		"a Match exec, and a refusal":                {"Match exec %HELPER%\nCompression no\nHost far", "exit 0", refusing, KeyRefused},
		"a KnownHostsCommand":                        {"KnownHostsCommand %HELPER% %PORT%", "exit 0", nil, ""},
		"a KnownHostsCommand, and a host not there":  {"KnownHostsCommand %HELPER% %PORT%", "exit 0", func(_ *testing.T, h *testbed.Host) { h.Stop() }, Refused},
		"a PKCS11Provider that is none":              {"PKCS11Provider %HELPER%", "exit 0", nil, ""},
		"a PKCS11Provider that is none, and refusal": {"PKCS11Provider %HELPER%", "exit 0", refusing, KeyRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testbed.NewHost(t)
			if test.spoil != nil {
				test.spoil(t, h)
			}
			helper := sayingEverything(t, test.then)
			lines := strings.NewReplacer("%HELPER%", helper, "%PORT%", strconv.Itoa(h.Port)).Replace(test.config)
			testbed.Write(t, h.Path("ssh_config"), strings.Replace(testbed.Read(t, h.Path("ssh_config")), "Host far\n", "Host far\n"+lines+"\n", 1))
			c := &Client{Env: append(Env(), "SSH_ASKPASS="+helper, "SSH_ASKPASS_REQUIRE=force"), Command: Command{Program: "ssh", ConfigFile: h.Path("ssh_config"), Host: "far"}}
			heard, v := listenTo(t, c)
			if heard.LetIn != (test.means == "") || v.Means != test.means || v.OnTheWay || heard.NearEnd != "" {
				t.Errorf("%+v, %+v", heard, v)
			}
			if test.means != "" && heard.Failure != meanings[test.means].failure {
				t.Errorf("it means %q for the next pause", heard.Failure)
			}
		})
	}
}
