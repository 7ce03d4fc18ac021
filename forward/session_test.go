package forward

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// talk is a session in which both sides say something in turns: C: and S: lines,
// whose ends are CRLF unless a line ends in a backslash.
func talk(s *session, script string, chop func(p []byte, to func([]byte))) {
	steps(script, func(p []byte, fromClient bool) {
		if fromClient {
			chop(p, s.client)
		} else {
			chop(p, s.server)
		}
	})
}

func steps(script string, say func(p []byte, fromClient bool)) {
	for line := range strings.Lines(script) {
		line = strings.TrimRight(strings.TrimLeft(line, "\t "), "\n")
		text, fromClient := strings.CutPrefix(line, "C: ")
		if !fromClient {
			var fromServer bool
			if text, fromServer = strings.CutPrefix(line, "S: "); !fromServer {
				continue
			}
		}
		if cut, partly := strings.CutSuffix(text, `\`); partly {
			text = cut
		} else {
			text += "\r\n"
		}
		text = strings.ReplaceAll(text, "~", "\r\n")
		say([]byte(text), fromClient)
	}
}

func whole(p []byte, to func([]byte)) { to(p) }

const greetedAndMail = "S: 220 far ESMTP\nC: EHLO me\nS: 250-far\nS: 250 PIPELINING\nC: MAIL FROM:<a>\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok\n"

const acceptedMail = greetedAndMail + "C: DATA\nS: 354 go\nC: Subject: x~~hello~.\nS: 250 accepted\n"

// states are those of a session: how it comes there, and whether the client can
// be told 421 then.
var states = map[string]struct {
	script string
	want   bool
}{
	"before the greeting":                  {"", false},
	"in the greeting":                      {"S: 220-far\n", false},
	"greeted":                              {"S: 220 far\n", true},
	"a greeting that refuses":              {"S: 554 go away\n", false},
	"a greeting that is busy":              {"S: 421 busy\n", false},
	"EHLO is unanswered":                   {"S: 220 far\nC: EHLO me\n", false},
	"HELO and MAIL are unanswered":         {"S: 220 far\nC: helo me~MAIL FROM:<a>\n", false},
	"EHLO is answered in part":             {"S: 220 far\nC: EHLO me\nS: 250-far\n", false},
	"in a line, of a byte":                 {"S: 220 far\nC: EHLO me\nS: 2\\\n", false},
	"in a line":                            {"S: 220 far\nC: EHLO me\nS: 250 fa\\\n", false},
	"EHLO":                                 {"S: 220 far\nC: EHLO me\nS: 250 far\n", true},
	"MAIL and RCPT":                        {greetedAndMail, true},
	"MAIL, RCPT and DATA at once":          {"S: 220 far\nC: MAIL FROM:<a>~RCPT TO:<b>~DATA\n", true},
	"RCPT is refused":                      {greetedAndMail + "C: RCPT TO:<c>\nS: 550 no\n", false},
	"RCPT is refused, and DATA unanswered": {greetedAndMail + "C: RCPT TO:<c>\nS: 550 no\nC: DATA\n", true},
	"in a mail's text":                     {greetedAndMail + "C: DATA\nS: 354 go\nC: Subject: x~~.hello~..~ .~\\\n", true},
	"an end that is none, in pieces":       {greetedAndMail + "C: DATA\nS: 354 go\nC: x~\\\nC: .\\\nC: y~\\\n", true},
	"after the dot":                        {greetedAndMail + "C: DATA\nS: 354 go\nC: Subject: x~~hello~.\n", false},
	"an empty mail":                        {greetedAndMail + "C: DATA\nS: 354 go\nC: .\n", false},
	"after the dot in pieces":              {greetedAndMail + "C: DATA\nS: 354 go\nC: x\\\nC: ~\\\nC: .\\\nC: ~\\\n", false},
	"accepted":                             {acceptedMail, false},
	"accepted, and RSET":                   {acceptedMail + "C: RSET\nS: 250 ok\n", false},
	"accepted, and NOOP unanswered":        {acceptedMail + "C: NOOP\n", false},
	"accepted, and another mail begun":     {acceptedMail + "C: MAIL FROM:<a>\n", true},
	"accepted, and another mail's text":    {acceptedMail + "C: MAIL FROM:<a>\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x~\\\n", true},
	"not accepted for now":                 {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.\nS: 451 later\n", true},
	"refused":                              {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.\nS: 554 spam\n", false},
	"DATA is refused":                      {greetedAndMail + "C: DATA\nS: 503 no\nC: RSET\n", true},
	"QUIT":                                 {"S: 220 far\nC: QUIT\n", false},
	"quit in small letters":                {"S: 220 far\nC: quit\n", false},
	"QUIT with the dot":                    {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.~QUIT\n", false},
	"QUIT with the dot, accepted":          {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.~QUIT\nS: 250 accepted\n", false},
	"the next MAIL with the dot":           {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.~MAIL FROM:<a>\n", false},
	"the next MAIL with the dot, accepted": {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.~MAIL FROM:<a>\nS: 250 accepted\n", false},
	"RSET with the dot, both answered":     {greetedAndMail + "C: DATA\nS: 354 go\nC: x~.~RSET\nS: 451 later\nS: 250 ok\n", true},
	"221":                                  {"S: 220 far\nC: QUIT\nS: 221 bye\n", false},
	"421 in the middle":                    {"S: 220 far\nS: 421 going down\n", false},
	"a reply that nobody has asked for":    {"S: 220 far\nS: 250 what?\n", false},
	"STARTTLS is unanswered":               {"S: 220 far\nC: STARTTLS\n", true},
	"STARTTLS":                             {"S: 220 far\nC: STARTTLS\nS: 220 go\n", false},
	"STARTTLS, with another code":          {"S: 220 far\nC: STARTTLS\nS: 200 go\n", false},
	"STARTTLS is refused for now":          {"S: 220 far\nC: STARTTLS\nS: 454 no\n", true},
	"AUTH, with a challenge":               {"S: 220 far\nC: AUTH LOGIN\nS: 334 VXNlcg==\nC: QUIT\n", true},
	"AUTH is done":                         {"S: 220 far\nC: AUTH LOGIN\nS: 334 VXNlcg==\nC: QUIT\nS: 235 ok\n", true},
	"a chunk":                              {greetedAndMail + "C: BDAT 6\nC: QUIT\nS: 250 ok\n", true},
	"the last chunk":                       {greetedAndMail + "C: BDAT 6 LAST\nC: hello!\\\n", false},
	"a part of the last chunk":             {greetedAndMail + "C: BDAT 6 LAST\nC: hello\\\n", true},
	"a part, and a mail is unanswered":     {greetedAndMail + "C: BDAT 2 LAST\nC: hi\\\nC: BDAT 6 LAST\nC: hello\\\n", false},
	"the last chunk is accepted":           {greetedAndMail + "C: BDAT 6 LAST\nC: hello!\\\nS: 250 ok\n", false},
	"a chunk that begins with LAST":        {greetedAndMail + "C: BDAT 6~LAST!!\\\n", true},
	"a chunk of more than nine":            {greetedAndMail + "C: BDAT 19\nC: 1234567890123456789\\\nS: 250 ok\n", true},
	"the last of more than nine":           {greetedAndMail + "C: BDAT 10 LAST\nC: 1234567890\\\n", false},
	"a last chunk of nothing":              {greetedAndMail + "C: BDAT 6\nC: hello!\\\nC: BDAT 0 LAST\nS: 250 ok\nS: 250 ok\nC: MAIL FROM:<a>\n", true},
	"a chunk of less than nothing":         {greetedAndMail + "C: BDAT -1\n", false},
	"a chunk without anything is refused":  {greetedAndMail + "C: BDAT\nS: 501 size?\nC: NOOP\n", true},
	"a chunk without a size":               {greetedAndMail + "C: BDAT x\n", false},
	"a chunk without anything":             {greetedAndMail + "C: BDAT\n", true},
	"a mail that the server fetches":       {greetedAndMail + "C: BURL imap://me@far/INBOX;uid=1 LAST\nS: 250 ok\n", false},
	"LMTP":                                 {"S: 220 far\nC: LHLO me\n", false},
	"no SMTP":                              {"S: 220 far\nS: \x16\x03\x01~\n", false},
	"a line without an end":                {"S: 220 far\nC: NOOP " + strings.Repeat("x", 5000) + "\\\n", true},
	"more commands than are followed":      {"S: 220 far\n" + strings.Repeat("C: NOOP\n", maxPending+1), false},
	"as many commands as are followed":     {"S: 220 far\n" + strings.Repeat("C: NOOP\n", maxPending), true},
	"a mail's text before DATA's answer":   {greetedAndMail + "C: DATA~Subject: x~~hello~.\nS: 354 go\nS: 250 accepted\n", false},
	"the same, and 250 is to come":         {greetedAndMail + "C: DATA~Subject: x~~hello~.\nS: 354 go\n", false},
	"codes with a 0 and a 9":               {"S: 220 far\nC: NOOP\nS: 209 ok\nC: NOOP\nS: 290 ok\n", true},
	"a reply without a text":               {"S: 220 far\nC: NOOP\nS: 250\n", true},
	"replies that are too short":           {"S: 220 far\nC: NOOP\nS: 25\n", false},
	"a code with another character":        {"S: 220 far\nC: NOOP\nS: 2:0 ok\n", false},
	"a third one that is no digit":         {"S: 220 far\nC: NOOP\nS: 25: ok\n", false},
	"another greeting":                     {"S: 205 far\n", true},
	"AUTH is refused, and QUIT":            {"S: 220 far\nC: AUTH LOGIN\nS: 535 no\nC: QUIT\n", false},
	"a code of four digits":                {"S: 220 far\nC: NOOP\nS: 2500 ok\n", false},
	"a first digit that is none of SMTP's": {"S: 220 far\nC: NOOP\nS: 650 ok\n", false},
	"an empty line":                        {"S: 220 far\nC: \nS: 500 what?\nC: NOOP\n", true},
}

func TestA421IsMadeUpOnlyWhereItIsTrue(t *testing.T) {
	for name, c := range states {
		t.Run(name, func(t *testing.T) {
			for try := range 20 {
				chance := rand.New(rand.NewPCG(1, uint64(try)))
				s := new(session)
				talk(s, c.script, func(p []byte, to func([]byte)) {
					if try == 0 {
						whole(p, to)
						return
					}
					for len(p) > 0 { // in pieces
						n := 1 + chance.IntN(min(len(p), 7))
						to(p[:n])
						p = p[n:]
					}
				})
				if got := s.mayTell(); got != c.want {
					t.Fatalf("try %d: %v, want %v", try, got, c.want)
				}
			}
		})
	}
}

// FuzzSession: nothing that either side says has it panic, or grow.
func FuzzSession(f *testing.F) {
	f.Add([]byte("220 far\r\n"), []byte("EHLO me\r\nBDAT 5 LAST\r\nhello"))
	f.Add([]byte("220 far\r\n250 ok\r\n354 go\r\n"), []byte("MAIL FROM:<a>\r\nDATA\r\n\r\n.\r\nQUIT\r\n"))
	f.Fuzz(func(t *testing.T, server, client []byte) {
		s := new(session)
		for len(server) > 0 || len(client) > 0 {
			n := min(7, len(client))
			s.client(client[:n])
			client = client[n:]
			n = min(5, len(server))
			s.server(server[:n])
			server = server[n:]
			if s.mayTell() && (s.quit || s.opaque) {
				t.Error("it would be untrue")
			}
		}
		if len(s.tail) >= len(endOfMail) || len(s.pending) > maxPending {
			t.Errorf("%d bytes and %d commands are kept", len(s.tail), len(s.pending))
		}
	})
}
