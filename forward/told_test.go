package forward

import "testing"

func TestBothSidesKnowThatASessionIsOverAfterAGoodByeOfEither(t *testing.T) {
	for script, want := range map[string]bool{
		"S: 220 far\n":                      false,
		"S: 220 far\nC: QUIT\n":             true,
		"S: 220 far\nC: QUIT\nS: 221 bye\n": true,
		"S: 220 far\nS: 421 going down\n":   true,
		"S: 220 far\nS: 221 bye\n":          true,
		"S: 554 go away\n":                  true,
		"S: 220 far\nC: RSET\nS: 250 ok\n":  false,
	} {
		s := new(session)
		talk(s, script, whole)
		if got := s.leaving(); got != want {
			t.Errorf("%q: %v", script, got)
		}
	}
}

// TestAnotherMailIsBegunByTheMAILBehindAnAcceptedOne, and only just now.
func TestAnotherMailIsBegunByTheMAILBehindAnAcceptedOne(t *testing.T) {
	for script, want := range map[string]bool{
		greetedAndMail:                      false,
		acceptedMail:                        false,
		acceptedMail + "C: MAIL FROM:<a>\n": true,
		acceptedMail + "C: RSET\nS: 250 ok\nC: MAIL FROM:<a>\n": true,
		acceptedMail + "C: MAIL FROM:<a>~RCPT TO:<b>\n":         true,
		acceptedMail + "C: MAIL FROM:<a>\nC: RCPT TO:<b>\n":     false,
		acceptedMail + "C: MAIL FROM:<a>\nC: MAIL FROM:<a>\n":   false,
		acceptedMail + "C: MAIL FROM:<a>\nS: 25\\\n":            false, // it could not be told
	} {
		s := new(session)
		talk(s, script, whole)
		if got := s.anotherMail(); got != want {
			t.Errorf("%q: %v", script, got)
		}
	}
}

func TestWhoHasEndedHisSideIsToldOnlyOfWhatIsUnanswered(t *testing.T) {
	for script, want := range map[string]bool{
		"S: 220 far\nC: NOOP\nS: 250 ok\n": false,
		"S: 220 far\nC: NOOP\n":            true,
	} {
		s := new(session)
		talk(s, script, whole)
		s.clientEnds()
		if got := s.mayTell(); got != want {
			t.Errorf("%q: %v", script, got)
		}
	}
}
