package forward

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
)

// A session follows what an SMTP client and its server say to each other, to
// know at any moment whether a 421 of our own would be true for whoever acts on
// it (docs/DESIGN.md, "What a client is told"). It must be shown all bytes of
// both directions, in order, before they are passed on.
type session struct {
	mu sync.Mutex

	// The client's side.
	line    [commandHead]byte // of the current command line, as much as counts
	n       int               // its length so far
	body    bool              // a mail's text is on its way
	tail    []byte            // of that text, the last bytes
	chunk   int64             // bytes of a BDAT chunk that are still to come
	pending []command         // commands that have not been answered yet

	// The server's side.
	head    [4]byte // of the current reply line
	length  int     // its length so far
	midway  bool    // in the middle of a reply
	greeted bool

	quit     bool // the client has said QUIT
	done     bool // the client has ended its side
	bye      bool // the server has said that it closes
	opaque   bool // it is not, or no longer, SMTP that we can read
	accepted bool // a mail has been accepted, and no other begun
	refused  bool // the last reply was a permanent refusal
	another  bool // the client has just now begun a mail behind an accepted one
}

// commandHead holds "BDAT 1234567890 LAST", the longest of what counts.
const commandHead = 24

// maxPending is more than a client pipelines; one that does is not followed.
const maxPending = 1000

// A command is what a reply is awaited for.
type command int

const (
	other command = iota
	hello
	startTLS
	auth     // the lines that follow are no commands, until it is answered
	mailData // DATA, to be answered 354
	wholeMail
)

// mayTell reports whether the client would take a 421 now for what it is: that
// what it is at has not been done. It would take it for something else after
// QUIT; for the fate of a mail whose text has been sent, which the server may
// have accepted; for that of an accepted mail, until it begins another; and, if it is
// dma, which bounces a mail then, where EHLO has no answer.
func (s *session) mayTell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.opaque || s.quit || s.bye || !s.greeted || s.midway || s.length > 0 || s.accepted:
		return false
	case (s.refused || s.done) && len(s.pending) == 0:
		return false // it is about to leave, or has left
	}
	for i, c := range s.pending {
		inside := s.chunk > 0 && i == len(s.pending)-1 // of its last chunk
		if c == hello || c == wholeMail && !inside {
			return false
		}
	}
	return true
}

// clientEnds is told when the client has ended its side.
func (s *session) clientEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
}

// leaving reports whether both sides know that the session is over.
func (s *session) leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quit || s.bye
}

// anotherMail reports whether the client has just now begun a mail behind an accepted
// one, and would take a 421 for that.
func (s *session) anotherMail() bool {
	s.mu.Lock()
	another := s.another
	s.mu.Unlock()
	return another && s.mayTell()
}

// client is shown what the client says.
func (s *session) client(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.another = false
	for len(p) > 0 && !s.opaque {
		switch {
		case s.chunk > 0:
			n := min(s.chunk, int64(len(p)))
			s.chunk, p = s.chunk-n, p[n:]
		case s.body:
			p = s.text(p)
		default:
			p = s.command(p)
		}
	}
}

// endOfMail ends a mail's text (RFC 5321, 4.1.1.4). The text may be empty: then
// it follows the command line.
var endOfMail = []byte("\r\n.\r\n")

// text looks for the end of a mail's text, and returns what is behind it.
func (s *session) text(p []byte) (rest []byte) {
	seen := len(s.tail)
	all := append(s.tail, p[:min(len(p), len(endOfMail)-1)]...)
	if i := bytes.Index(all, endOfMail); i >= 0 {
		return s.textEnds(p[i+len(endOfMail)-seen:])
	}
	if i := bytes.Index(p, endOfMail); i >= 0 {
		return s.textEnds(p[i+len(endOfMail):])
	}
	last := append(s.tail, p[max(0, len(p)-len(endOfMail)+1):]...)
	s.tail = append(s.tail[:0:0], last[max(0, len(last)-len(endOfMail)+1):]...)
	return nil
}

func (s *session) textEnds(rest []byte) []byte {
	s.body, s.tail = false, nil
	s.await(wholeMail)
	return rest
}

// command reads a command line, up to its end.
func (s *session) command(p []byte) (rest []byte) {
	i := bytes.IndexByte(p, '\n')
	part := p
	if i >= 0 {
		part = p[:i+1]
	}
	if s.n < commandHead {
		copy(s.line[s.n:], part)
	}
	s.n += len(part)
	if i < 0 {
		return nil
	}
	words := strings.Fields(strings.ToUpper(string(s.line[:min(s.n, commandHead)])))
	s.n = 0
	s.commanded(words)
	return p[i+1:]
}

func (s *session) commanded(words []string) {
	for _, c := range s.pending {
		if c == auth {
			return // its answer to a challenge (RFC 4954)
		}
	}
	if len(words) == 0 {
		words = []string{""}
	}
	if n := len(s.pending); n > 0 && s.pending[n-1] == mailData {
		s.opaque = true // a mail's text, if DATA is answered 354, or else commands
		return
	}
	switch words[0] {
	case "EHLO", "HELO":
		s.await(hello)
	case "QUIT":
		s.quit = true
	case "MAIL":
		s.accepted, s.another = false, s.accepted
		s.await(other)
	case "DATA":
		s.await(mailData)
	case "BDAT":
		s.bdat(words)
	case "AUTH":
		s.await(auth)
	case "STARTTLS":
		s.await(startTLS)
	case "LHLO", "BURL":
		// LMTP has a reply for each recipient (RFC 2033). BURL may be a whole mail,
		// which a word behind an address of any length tells (RFC 4468).
		s.opaque = true
	default:
		s.await(other)
	}
}

// bdat is a chunk of a mail (RFC 3030).
func (s *session) bdat(words []string) {
	if len(words) < 2 {
		s.await(other)
		return
	}
	size, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || size < 0 {
		s.opaque = true
		return
	}
	s.chunk = size
	if len(words) > 2 && words[2] == "LAST" {
		s.await(wholeMail)
	} else {
		s.await(other)
	}
}

func (s *session) await(c command) {
	if len(s.pending) == maxPending {
		s.opaque = true
		return
	}
	s.pending = append(s.pending, c)
}

// server is shown what the server says.
func (s *session) server(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range p {
		if s.opaque {
			return
		}
		if s.length < len(s.head) {
			s.head[s.length] = c
		}
		s.length++
		if c == '\n' {
			s.replyLine()
			s.length = 0
		}
	}
}

// replyLine looks at the code of a line: "250 text" and "250" end a reply,
// "250-text" does not (RFC 5321, 4.2). What does not begin like that is no
// reply: TLS, for example.
func (s *session) replyLine() {
	h := s.head
	if h[0] < '2' || h[0] > '5' || !isDigit(h[1]) || !isDigit(h[2]) {
		s.opaque = true
		return
	}
	if s.midway = h[3] == '-'; s.midway {
		return
	}
	if h[3] != ' ' && h[3] != '\r' {
		s.opaque = true
		return
	}
	s.replied(string(h[:3]))
}

// replied takes a whole reply for the oldest command.
func (s *session) replied(code string) {
	s.bye = s.bye || code == "221" || code == "421"
	s.refused = code[0] == '5'
	if !s.greeted {
		s.greeted = true
		s.bye = s.bye || code[0] != '2'
		return
	}
	if len(s.pending) == 0 {
		s.opaque = !s.bye // it answers what nobody has asked
		return
	}
	c := s.pending[0]
	if c == auth && code[0] == '3' {
		return
	}
	s.pending = s.pending[1:]
	switch {
	case c == startTLS && code[0] == '2':
		s.opaque = true
	case c == mailData && code[0] == '3':
		s.body, s.tail = true, append(s.tail[:0:0], '\r', '\n')
	case c == wholeMail:
		s.accepted = code[0] == '2'
	}
}
