package docs_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"minimail/internal/testbed"
)

// TestOtherUsesAreAsThePageSays types what docs/uses.md says.
func TestOtherUsesAreAsThePageSays(t *testing.T) {
	t.Parallel()
	page := pageBlocks(t, "docs/uses.md")
	testbed.OnMachine(t, func(t *testing.T, m *testbed.Machine) {
		g := newGuide(t, m)
		g.Run(t, 0, "dpkg", "--install", g.deb(t))
		for _, command := range []string{"ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519", "ssh-copy-id me@host.example.com"} {
			g.me.Types(t, command)
		}
		certificate := newCertificate(t, "host.example.com")
		g.submission(t, certificate)
		g.imap(t, certificate)
		web := g.far.Listen(t, 80)
		go func() { _ = http.Serve(web, http.HandlerFunc(saySite)) }() // until it is closed
		g.innerHost(t)
		g.follow(t, page)
		g.hasMail(t, "By submission.")
	})
}

// saySite answers with the name by which the server was asked for.
func saySite(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "this is %s\n", r.Host) }

// newCertificate makes one for a name, which the machine trusts.
func newCertificate(t *testing.T, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/etc/ssl/certs", 0o755); err != nil {
		t.Fatal(err)
	}
	testbed.Write(t, "/etc/ssl/certs/ca-certificates.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// submission has the host's port 587 take mail from those who log in, in TLS.
func (g *guide) submission(t *testing.T, certificate *tls.Config) {
	g.far.Serve(t, 587, func(c net.Conn) {
		said, loggedIn := textproto.NewConn(c), false
		say := func(s string) { _ = said.PrintfLine("%s", s) }
		say("220 host.example.com ESMTP")
		features := "STARTTLS"
		for {
			l, err := said.ReadLine()
			if err != nil {
				return
			}
			verb, parameter, _ := strings.Cut(l, " ")
			switch verb {
			case "EHLO":
				say("250-host.example.com\r\n250 " + features)
			case "STARTTLS":
				say("220 go on")
				features, said = "AUTH PLAIN", textproto.NewConn(tls.Server(c, certificate))
			case "AUTH":
				if loggedIn = parameter == "PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00me\x00secret")); !loggedIn {
					say("535 wrong password")
					continue
				}
				say("235 welcome")
			case "DATA":
				say("354 go on")
				mail, err := said.ReadDotBytes()
				if err != nil || !loggedIn {
					return
				}
				g.Mails <- string(mail)
				say("250 accepted")
			case "QUIT":
				say("221 bye")
				return
			default:
				say("250 ok")
			}
		}
	})
}

// imap has the host's ports 143 and 993 speak just enough IMAP.
func (g *guide) imap(t *testing.T, certificate *tls.Config) {
	g.far.Serve(t, 143, speakIMAP)
	g.far.Serve(t, 993, func(c net.Conn) { speakIMAP(tls.Server(c, certificate)) })
}

func speakIMAP(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1] host.example.com ready.\r\n")
	for r := bufio.NewScanner(c); r.Scan(); {
		tag, command, _ := strings.Cut(r.Text(), " ")
		verb, _, _ := strings.Cut(strings.ToUpper(command), " ")
		switch verb {
		case "CAPABILITY":
			fmt.Fprint(c, "* CAPABILITY IMAP4rev1\r\n")
		case "LIST":
			fmt.Fprint(c, "* LIST (\\HasNoChildren) \".\" INBOX\r\n")
		case "LOGOUT":
			fmt.Fprintf(c, "* BYE Logging out\r\n%s OK Logout completed.\r\n", tag)
			return
		}
		fmt.Fprintf(c, "%s OK %s completed.\r\n", tag, verb)
	}
}

// innerHost is one that only host.example.com can reach.
func (g *guide) innerHost(t *testing.T) {
	t.Helper()
	inner := g.me.NewHost(t, "inner.example.com", 1, g.far.SSHD.Process.Pid)
	testbed.Write(t, "/etc/hosts", testbed.Read(t, "/etc/hosts")+inner.Address+" inner.example.com\n")
	inner.Serve(t, 25, func(c net.Conn) {
		fmt.Fprint(c, "220 inner.example.com ESMTP\r\n")
		if bufio.NewScanner(c).Scan() {
			fmt.Fprint(c, "221 bye\r\n")
		}
	})
}
